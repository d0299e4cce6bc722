"""Connected components of a mask: voxels that touch by a face, an edge or a corner (26-connected)."""

import numpy as np
from scipy import ndimage

from lnq.image.volume import bounding_box

CONNECTED_26 = np.ones((3, 3, 3), bool)


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the components of a mask [Z, Y, X] (bool or numbers).

    Returns each voxel's component, int32 [Z, Y, X], from 1 and 0 outside the mask, and the count of components.
    """
    labels, count = ndimage.label(mask, CONNECTED_26)
    return labels, count


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The component of each voxel that a mask (bool [Z, Y, X]) marks, from 1, and the count of components.

    The numbers are int32, in the order of the marked voxels. Only the box around the marked voxels is searched, because
    masks are mostly empty.
    """
    box = bounding_box(mask)
    labels, count = label(mask[box])
    return labels[mask[box]], count
