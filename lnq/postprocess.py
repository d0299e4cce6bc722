"""From a thresholded probability to nodes: the rules of METHOD section 7, in physical units."""

import numpy as np
from scipy import ndimage

from lnq.crop import Crop
from lnq.spec import PostProcessing
from lnq.volume import Volume

_CORNERS = np.ones((3, 3, 3), bool)  # 26-connected


def postprocess(
    mask: np.ndarray, image_hu: Volume, crop: Crop, rules: PostProcessing, use_region: bool = True
) -> np.ndarray:
    """uint8 mask of the nodes, on the crop's grid as `mask` (bool) and `image_hu` are.

    In this order: nothing outside the mediastinal region; no component that touches the border of the crop's
    box; only voxels within the HU range; no component of at most the minimal volume. Components are
    26-connected.
    """
    nodes = mask & crop.region if use_region else mask.astype(bool)
    nodes = drop_at_border(nodes, image_hu.spacing_mm, rules.border_mm)
    low, high = rules.hu_range
    nodes &= (image_hu.array >= low) & (image_hu.array <= high)
    return drop_small(nodes, image_hu.voxel_volume_mm3, rules.min_volume_mm3).astype(np.uint8)


def drop_at_border(
    mask: np.ndarray, spacing_mm: tuple[float, float, float], border_mm: tuple[float, float, float]
) -> np.ndarray:
    """Without the components that reach into a band at the array's faces; a band is at least one voxel wide,
    unless it is 0 mm."""
    band = np.ones(mask.shape, bool)
    widths = [max(1, round(b / s)) if b > 0 else 0 for b, s in zip(border_mm, spacing_mm, strict=True)]
    band[tuple(slice(w, max(w, n - w)) for w, n in zip(widths, mask.shape, strict=True))] = False
    labels, count = ndimage.label(mask, _CORNERS)
    keep = np.ones(count + 1, bool)
    keep[labels[band]] = False
    keep[0] = False
    return keep[labels]


def drop_small(mask: np.ndarray, voxel_volume_mm3: float, min_volume_mm3: float) -> np.ndarray:
    """Without the components of at most `min_volume_mm3`."""
    labels, _ = ndimage.label(mask, _CORNERS)
    keep = np.bincount(labels.ravel()) * voxel_volume_mm3 > min_volume_mm3
    keep[0] = False
    return keep[labels]
