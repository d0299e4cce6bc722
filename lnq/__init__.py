"""Segmentation of mediastinal lymph nodes: a chest CT in, a mask out. Knows nothing of training."""

__version__ = "0.1.0"
