"""A small volume whose every voxel differs, in any direction."""

import numpy as np

from lnq.image.volume import Volume, make_affine


def oblique(degrees: float = 20.0) -> np.ndarray:
    """Columns z, y, x turned about the patient's left-right axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_left = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return about_left @ np.eye(3)[::-1]


def example(direction: np.ndarray | None = None) -> Volume:
    array = np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6)
    return Volume(array, make_affine((2.5, 0.8, 0.7), (10.123456789, -20.5, 30.25), direction))
