"""Segmentation library: a chest CT in, a mask of its mediastinal lymph nodes out. Knows nothing of training."""
