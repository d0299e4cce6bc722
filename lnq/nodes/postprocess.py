"""From a thresholded probability to nodes: the rules of METHOD section 7, in physical units."""

import numpy as np

from lnq.anatomy.crop import Crop
from lnq.image.components import components
from lnq.image.volume import Volume
from lnq.inference.spec import PostProcessing


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
    hu = image_hu.array[nodes]
    nodes = _only(nodes, (hu >= low) & (hu <= high))
    return drop_small(nodes, image_hu.voxel_volume_mm3, rules.min_volume_mm3).astype(np.uint8)


def drop_at_border(
    mask: np.ndarray, spacing_mm: tuple[float, float, float], border_mm: tuple[float, float, float]
) -> np.ndarray:
    """Without the components that reach into a band at the array's faces; a band is at least one voxel wide,
    unless it is 0 mm."""
    band = np.ones(mask.shape, bool)
    widths = [max(1, round(b / s)) if b > 0 else 0 for b, s in zip(border_mm, spacing_mm, strict=True)]
    band[tuple(slice(w, max(w, n - w)) for w, n in zip(widths, mask.shape, strict=True))] = False
    numbers, count = components(mask)
    keep = np.ones(count + 1, bool)
    keep[numbers[band[mask]]] = False
    return _only(mask, keep[numbers])


def drop_small(mask: np.ndarray, voxel_volume_mm3: float, min_volume_mm3: float) -> np.ndarray:
    """Without the components of at most `min_volume_mm3`."""
    numbers, _ = components(mask)
    keep = np.bincount(numbers) * voxel_volume_mm3 > min_volume_mm3
    return _only(mask, keep[numbers])


def drop_faint(mask: np.ndarray, probability: np.ndarray, peak_threshold: float) -> np.ndarray:
    """Without the components whose highest probability, float32 on the mask's grid, is below `peak_threshold`.

    Where something is node is one question, how far it reaches another: a node's border may be as uncertain as a
    vessel's whole cross-section is.
    """
    if peak_threshold <= 0:
        return mask
    marked = mask.astype(bool)
    numbers, count = components(marked)
    return mask * _only(marked, peaks(numbers, count, probability[marked])[numbers - 1] >= peak_threshold)


def peaks(numbers: np.ndarray, count: int, values: np.ndarray) -> np.ndarray:
    """The highest of the `values` (at least 0) of each component, as `components` numbers them."""
    found = np.zeros(count, np.float32)
    np.maximum.at(found, numbers - 1, values)
    return found


def _only(mask: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A mask's voxels of which `wanted` (bool, in the voxels' order) is true."""
    kept = np.zeros(mask.shape, bool)
    kept[mask] = wanted
    return kept
