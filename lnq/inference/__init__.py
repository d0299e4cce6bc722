"""A model bundle and the network in it, run over an image by overlapping windows."""
