"""Read CTs from DICOM files: find the series, choose among them, and read one."""
