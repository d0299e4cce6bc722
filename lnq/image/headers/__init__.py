"""Headers of image files, checked before ITK opens the file."""
