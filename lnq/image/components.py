"""Connected components of a mask: voxels that touch by a face, an edge or a corner (26-connected)."""

import numpy as np
from scipy import ndimage

from lnq.image.volume import bounding_box

CONNECTED_26 = np.ones((3, 3, 3), bool)


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Each voxel's component from 1, int32 [Z, Y, X], 0 outside the mask (bool or numbers); and how many there are."""
    labels, count = ndimage.label(mask, CONNECTED_26)
    return labels, count


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The number, from 1, of the component that each voxel of a mask (bool) belongs to, in the voxels' order; and how
    many there are. Masks are mostly empty: only the box around what is marked is searched."""
    box = bounding_box(mask)
    labels, count = label(mask[box])
    return labels[mask[box]], count
