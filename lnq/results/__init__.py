"""What is written of a segmented case: tables, pictures, DICOM objects."""
