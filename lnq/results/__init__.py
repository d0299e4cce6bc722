"""Write the results of a segmented case: tables, pictures and DICOM objects."""
