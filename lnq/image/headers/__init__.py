"""Headers of image files, read before ITK sees the file."""
