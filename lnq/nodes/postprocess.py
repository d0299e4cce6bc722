"""Turn a thresholded probability into nodes: the rules of METHOD section 7, in physical units."""

from collections.abc import Sequence

import numpy as np

from lnq.anatomy.crop import Crop
from lnq.image.components import components
from lnq.image.volume import Box, Volume, bounding_box
from lnq.inference.spec import PostProcessing


def postprocess(
    mask: np.ndarray,
    image_hu: Volume,
    crop: Crop,
    rules: PostProcessing,
    use_region: bool = True,
    part: Box | None = None,
) -> np.ndarray:
    """The mask of the nodes, uint8 [Z, Y, X]. `mask` (bool) and `image_hu` lie on the crop's grid, or a part of it.

    The rules drop, in this order: voxels outside the mediastinal region, components that touch the border of the crop's
    box, voxels outside the HU range, and components not larger than the minimal volume. Components are 26-connected.
    """
    box = bounding_box(mask)  # masks are mostly empty
    inside = mask[box].astype(bool)
    if use_region:
        inside &= crop.region[part or ...][box]
    start = [a.start + (b.start if part else 0) for a, b in zip(box, part or box, strict=True)]
    inside = _not_at_border(inside, start, crop.region.shape, image_hu.spacing_mm, rules.border_mm)
    low, high = rules.hu_range
    hu = image_hu.array[box][inside]
    inside = _only(inside, (hu >= low) & (hu <= high))
    nodes = np.zeros(mask.shape, np.uint8)
    nodes[box] = drop_small(inside, image_hu.voxel_volume_mm3, rules.min_volume_mm3)
    return nodes


def drop_at_border(
    mask: np.ndarray, spacing_mm: tuple[float, float, float], border_mm: tuple[float, float, float]
) -> np.ndarray:
    """Drop the components of a mask (bool [Z, Y, X]) that reach into a band at the array's faces.

    The band is `border_mm` (z, y, x) wide, at least one voxel. There is none along an axis with 0 mm.
    """
    return _not_at_border(mask, (0, 0, 0), mask.shape, spacing_mm, border_mm)


def _not_at_border(
    mask: np.ndarray,
    start: Sequence[int],
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    border_mm: tuple[float, float, float],
) -> np.ndarray:
    """`drop_at_border` for a mask that is the part of a larger array of this `shape` that begins at voxel `start`."""
    numbers, count = components(mask)
    at_border = np.zeros(numbers.shape, bool)
    for own, first, size, border, spacing in zip(np.nonzero(mask), start, shape, border_mm, spacing_mm, strict=True):
        width = max(1, round(border / spacing)) if border > 0 else 0
        at_border |= (own + first < width) | (own + first >= size - width)
    keep = np.ones(count + 1, bool)
    keep[numbers[at_border]] = False
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
    box = bounding_box(mask)
    marked = mask[box].astype(bool)
    numbers, count = components(marked)
    bright = peaks(numbers, count, probability[box][marked])[numbers - 1] >= peak_threshold
    kept = np.zeros_like(mask)
    kept[box] = mask[box] * _only(marked, bright)
    return kept


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
