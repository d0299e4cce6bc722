"""Turn a thresholded probability into nodes: the rules of METHOD section 7, in physical units."""

import numpy as np

from lnq.anatomy.crop import Crop
from lnq.image.components import components
from lnq.image.volume import Volume
from lnq.inference.spec import PostProcessing


def postprocess(
    mask: np.ndarray, image_hu: Volume, crop: Crop, rules: PostProcessing, use_region: bool = True
) -> np.ndarray:
    """The mask of the nodes, uint8 [Z, Y, X] on the crop's grid. `mask` (bool) and `image_hu` lie on the same grid.

    The rules drop, in this order: voxels outside the mediastinal region, components that touch the border of the crop's
    box, voxels outside the HU range, and components not larger than the minimal volume. Components are 26-connected.
    """
    nodes = mask & crop.region if use_region else mask.astype(bool)
    nodes = drop_at_border(nodes, image_hu.spacing_mm, rules.border_mm)
    low, high = rules.hu_range
    hu = image_hu.array[nodes]
    nodes = _only(nodes, (hu >= low) & (hu <= high))
    return drop_small(nodes, image_hu.voxel_volume_mm3, rules.min_volume_mm3).astype(np.uint8)


def drop_at_border(
    mask: np.ndarray, spacing_mm: tuple[float, float, float], border_mm: tuple[float, float, float]
) -> np.ndarray:
    """Drop the components of a mask (bool [Z, Y, X]) that reach into a band at the array's faces.

    The band is `border_mm` (z, y, x) wide, at least one voxel. There is none along an axis with 0 mm.
    """
    band = np.ones(mask.shape, bool)
    widths = [max(1, round(b / s)) if b > 0 else 0 for b, s in zip(border_mm, spacing_mm, strict=True)]
    band[tuple(slice(w, max(w, n - w)) for w, n in zip(widths, mask.shape, strict=True))] = False
    numbers, count = components(mask)
    keep = np.ones(count + 1, bool)
    keep[numbers[band[mask]]] = False
    return _only(mask, keep[numbers])


def drop_small(mask: np.ndarray, voxel_volume_mm3: float, min_volume_mm3: float) -> np.ndarray:
    """Drop the components of a mask (bool [Z, Y, X]) that are not larger than `min_volume_mm3`."""
    numbers, _ = components(mask)
    keep = np.bincount(numbers) * voxel_volume_mm3 > min_volume_mm3
    return _only(mask, keep[numbers])


def drop_faint(mask: np.ndarray, probability: np.ndarray, peak_threshold: float) -> np.ndarray:
    """Drop the components of a mask [Z, Y, X] whose highest probability is below `peak_threshold`.

    `probability`: float32 on the mask's grid. The peak decides whether something is a node, the lower threshold how far
    it reaches: a node's border may be as uncertain as a vessel's whole cross-section.
    """
    if peak_threshold <= 0:
        return mask
    marked = mask.astype(bool)
    numbers, count = components(marked)
    return mask * _only(marked, peaks(numbers, count, probability[marked])[numbers - 1] >= peak_threshold)


def peaks(numbers: np.ndarray, count: int, values: np.ndarray) -> np.ndarray:
    """The highest of the `values` (0 or more, one per marked voxel) in each component, float32 [count].

    `numbers` and `count` are those of `components`.
    """
    found = np.zeros(count, np.float32)
    np.maximum.at(found, numbers - 1, values)
    return found


def _only(mask: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Keep a mask's voxels for which `wanted` (bool, one per marked voxel) is true."""
    kept = np.zeros(mask.shape, bool)
    kept[mask] = wanted
    return kept
