"""Model bundles, and their network run over an image in overlapping windows."""
