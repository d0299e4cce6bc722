"""The mediastinal region: what lies between the lungs (METHOD section 7)."""

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from lnq.image.components import label
from lnq.image.volume import bounding_box

_SLIVER_MM = 8.0  # half-width; a narrower gap between lung and hull is an uneven outline of the lung
# The depth reaches from the lungs' back to the front of the spinal canal. Nodes begin at 40 mm.
_SPINE_DEPTH_MM, _SPINE_HALF_WIDTH_MM = 25.0, 25.0
_IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]
_WALL_MM = 5.0  # beyond the hull: takes in nodes at the lungs' edges, but no muscle between the ribs


def region_between(lungs: np.ndarray, spacing_mm: tuple[float, float, float], margin_mm: float) -> np.ndarray:
    """The convex hull of both lungs less the lungs, per axial slice, then widened by `margin_mm` in 3-D.

    `lungs`: bool [Z, Y, X] with z along the body. Returns bool of the same shape, empty for empty lungs.
    Vessels inside the lungs are closed first. Slivers between the hull and the lungs' outline are dropped. Only the
    largest connected piece is kept, which leaves out a tumour at the chest wall. Within an axial slice the widening
    ends 5 mm outside the hull: below the domes, where the lungs are thin, it would reach the muscle between the ribs.
    The spinal canal and all that lies behind it are left out.
    """
    reach = np.ceil(max(margin_mm, _SLIVER_MM, _WALL_MM) / np.array(spacing_mm)).astype(int) + 1
    box = bounding_box(lungs, tuple(reach.tolist()))  # voxels farther away stay background
    region = np.zeros(lungs.shape, bool)
    if not region[box].size:
        return region
    region[box] = _region_within(lungs[box], spacing_mm, margin_mm)
    return region


def _region_within(lungs: np.ndarray, spacing_mm: tuple[float, float, float], margin_mm: float) -> np.ndarray:
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    hulls = np.stack([hull(one) for one in lungs])
    closed = ndimage.binary_fill_holes(_close(lungs, spacing_mm, _SLIVER_MM), _IN_PLANE)
    between = _open(hulls & ~closed, spacing_mm, _SLIVER_MM)
    chest = _dilate(hulls, spacing_mm, _WALL_MM)
    for z in slices:
        chest[z] &= ~_spine(hulls[z], spacing_mm[1:])
    labels, count = label(between)
    if count == 0:
        return between
    between = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    chest[: slices[0]], chest[slices[-1] + 1 :] = chest[slices[0]], chest[slices[-1]]
    return chest & (ndimage.distance_transform_edt(~between, spacing_mm) <= margin_mm)


def _spine(hull_z: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Pixels [Y, X] of the spinal canal and all behind it, from its usual position in the hull of both lungs."""
    rows, columns = np.ogrid[: hull_z.shape[0], : hull_z.shape[1]]
    used_rows, used_columns = np.nonzero(hull_z)
    middle = (used_columns.min() + used_columns.max()) / 2
    central = np.abs(columns - middle) * spacing_mm[1] <= _SPINE_HALF_WIDTH_MM
    return central & ((used_rows.max() - rows) * spacing_mm[0] <= _SPINE_DEPTH_MM)


def midline_column(region: np.ndarray) -> float:
    """Mean column, as an index, of the upper half of a mediastinal region [Z, Y, X]. The heart shifts the lower one."""
    used = np.flatnonzero(region.any(axis=(1, 2)))
    upper = region[(used[0] + used[-1] + 1) // 2 : used[-1] + 1]
    return float(np.average(np.arange(region.shape[2]), weights=upper.sum(axis=(0, 1))))


def hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull of a mask's pixel corners, bool [Y, X] as the mask is; empty for an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return np.zeros(mask.shape, bool)
    left = mask[rows].argmax(axis=1) - 0.5  # the hull depends on a row's first and last pixel alone
    right = mask.shape[1] - mask[rows, ::-1].argmax(axis=1) - 0.5
    corners = [(rows + dy, x) for dy in (-0.5, 0.5) for x in (left, right)]
    points = np.concatenate([np.stack(c, axis=1) for c in corners])
    edges = ConvexHull(points).equations  # [edges, 3]: normal and offset, negative inside
    inside = np.ones(mask.shape, bool)
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    for normal_y, normal_x, offset in edges:
        inside &= normal_y * y + normal_x * x + offset <= 1e-9
    return inside


def _dilate(masks: np.ndarray, spacing_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """All pixels within a radius of a mask's, in each axial slice of a stack [Z, Y, X]."""
    height, width = masks.shape[1:]
    wide = masks.copy()
    reach_y, reach_x = (min(int(radius_mm / s), n - 1) for s, n in zip(spacing_mm[1:], (height, width), strict=True))
    for dy in range(-reach_y, reach_y + 1):
        for dx in range(-reach_x, reach_x + 1):
            if (dy or dx) and np.hypot(dy * spacing_mm[1], dx * spacing_mm[2]) <= radius_mm:
                to = np.s_[:, max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
                by = np.s_[:, max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)]
                wide[to] |= masks[by]
    return wide


def _close(masks: np.ndarray, spacing_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    return ~_dilate(~_dilate(masks, spacing_mm, radius_mm), spacing_mm, radius_mm)


def _open(masks: np.ndarray, spacing_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    core = ~_dilate(~masks, spacing_mm, radius_mm)
    return masks & _dilate(core, spacing_mm, radius_mm)
