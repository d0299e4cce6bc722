"""Find the carina, where the trachea divides, from the image alone: nodes are described by their level to it.

The trachea is followed downwards as a round hole of air in each axial slice, on a copy of 1.5 mm in the plane, until
it becomes two that stay apart.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lnq.resample import resample_image
from lnq.volume import Volume

_GRID_MM = (2.5, 1.5, 1.5)  # no coarser than half a main bronchus; thicker slices stay as they are
_BLUR_MM = 0.8  # in the plane: noise would break the lumen up
_AIR_HU = -900.0  # free air has -1000, lung is denser but for emphysema, which is told by its shape
_TRACHEA_MM2 = (50.0, 900.0)  # of the lumen; just above the carina it is widest
_BRONCHUS_MM2 = 10.0  # the least lumen of a main bronchus that partial volume leaves in thick slices
_ROUND = 0.5  # least part of its bounding box that a lumen fills; lung between vessels fills less
_OFF_MIDLINE_MM = 40.0
_LEAST_LENGTH_MM = 20.0  # of trachea above the carina
_APART_MM = 8.0  # between the bronchi's centres
_STAY_APART_MM = 7.5  # so far down: a membrane's fold closes again

Hole = np.ndarray  # bool [Y, X]: one hole of air in an axial slice


def find_carina(chest: Volume, region: np.ndarray) -> tuple[float, float, float] | None:
    """(L, P, S) in mm of the point between the two main bronchi where they part; None where it is not found.

    `chest`: HU in LPS axes, cropped to both lungs; `region`: bool, the mediastinal region on its grid.
    """
    if not region.any():
        return None
    grid = _air_grid(chest)
    midline = np.average(np.arange(region.shape[2]), weights=region.sum(axis=(0, 1)))
    column = midline * chest.spacing_mm[2] / grid.spacing_mm[2]
    air = grid.array
    for top in range(air.shape[0] - 1, 0, -1):
        for hole in _holes(air[top], grid.spacing_mm, _TRACHEA_MM2[0]):
            if _looks_like_trachea(hole, column, grid.spacing_mm):
                found = _follow(air, top, hole, grid.spacing_mm)
                if found is None:
                    continue
                position = grid.affine @ [*found, 1.0]
                z, y, x = np.round(np.linalg.inv(chest.affine) @ position)[:3].astype(int)
                if region[z, y, x]:
                    return float(position[0]), float(position[1]), float(position[2])
    return None


def _air_grid(chest: Volume) -> Volume:
    """Free air as bool on the working grid."""
    z, y, x = (max(wanted, own) for wanted, own in zip(_GRID_MM, chest.spacing_mm, strict=True))
    coarse = resample_image(chest, (z, y, x))
    smooth = ndimage.gaussian_filter(coarse.array, (0.0, _BLUR_MM / y, _BLUR_MM / x))
    return coarse.with_array(smooth < _AIR_HU)


def _holes(air: np.ndarray, spacing_mm: tuple[float, float, float], least_mm2: float) -> list[Hole]:
    """The connected pieces of a slice's air of at least that area, largest first."""
    labels, _ = ndimage.label(air)
    areas = np.bincount(labels.ravel())[1:] * spacing_mm[1] * spacing_mm[2]
    order = np.argsort(-areas, kind="stable")
    return [labels == i + 1 for i in order if areas[i] >= least_mm2]


def _looks_like_trachea(hole: Hole, column: float, spacing_mm: tuple[float, float, float]) -> bool:
    y, x = np.nonzero(hole)
    area = len(y) * spacing_mm[1] * spacing_mm[2]
    filled = len(y) / ((np.ptp(y) + 1) * (np.ptp(x) + 1))
    off = abs(x.mean() - column) * spacing_mm[2]
    return bool(area <= _TRACHEA_MM2[1] and filled >= _ROUND and off <= _OFF_MIDLINE_MM)


def _follow(
    air: np.ndarray, top: int, hole: Hole, spacing_mm: tuple[float, float, float]
) -> tuple[float, float, float] | None:
    """Down from a hole to where it parts, as an index (z, y, x); None where it ends, or opens into a lung."""
    for z in range(top - 1, -1, -1):
        below = _below(air[z], hole, spacing_mm)
        if not below:
            return None
        if len(below) > 1 and _stay_apart(air, z, below[0], below[1], spacing_mm):
            long_enough = (top - z) * spacing_mm[0] >= _LEAST_LENGTH_MM
            return (z + 0.5, *_between(below[0], below[1])) if long_enough else None
        hole = np.any(below, axis=0) if len(below) > 1 else below[0]
    return None


def _below(air: np.ndarray, hole: Hole, spacing_mm: tuple[float, float, float]) -> list[Hole]:
    """The holes of the next slice under a hole, largest first; none where they open into a lung."""
    reach = round(max(3.0, 0.7 * spacing_mm[0]) / spacing_mm[2])  # airways slant by at most 35 degrees
    near = ndimage.binary_dilation(hole, iterations=max(1, reach))
    under = [h for h in _holes(air, spacing_mm, _BRONCHUS_MM2) if (h & near).any()]
    area = spacing_mm[1] * spacing_mm[2]
    return [] if any(h.sum() * area > _TRACHEA_MM2[1] for h in under) else under


def _stay_apart(air: np.ndarray, z: int, one: Hole, other: Hole, spacing_mm: tuple[float, float, float]) -> bool:
    """Whether two holes are as far apart as bronchi, and go on downwards without meeting."""
    centres = [np.argwhere(hole).mean(axis=0)[1] * spacing_mm[2] for hole in (one, other)]
    if abs(centres[0] - centres[1]) < _APART_MM:
        return False
    for deeper in range(z - 1, max(-1, z - 1 - round(_STAY_APART_MM / spacing_mm[0])), -1):
        ways = [_below(air[deeper], hole, spacing_mm) for hole in (one, other)]
        if not all(ways):
            return False
        one, other = ways[0][0], ways[1][0]
        if (one & other).any():
            return False
    return True


def _between(one: Hole, other: Hole) -> tuple[float, float]:
    """The middle (y, x) of the shortest way from one hole to the other."""
    distance, nearest = ndimage.distance_transform_edt(~other, return_indices=True)
    points = np.argwhere(one)
    start = points[np.argmin(distance[one])]
    y, x = (start + nearest[:, start[0], start[1]]) / 2
    return float(y), float(x)
