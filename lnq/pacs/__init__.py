"""A DICOM node: it takes studies from a PACS or a folder, segments them, and sends the results on."""
