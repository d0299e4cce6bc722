"""Find the carina, where the trachea divides, from the image alone. A node's level is given relative to it.

The trachea is a round hole of air in each axial slice. It is followed downwards, on a copy with 1.5 mm in the plane,
until the hole becomes two that stay apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.anatomy.region import midline_column
from lnq.image.resample import resample_image
from lnq.image.volume import Volume

_GRID_MM = (2.5, 1.5, 1.5)  # z, y, x; at most half a main bronchus wide; coarser spacings are kept
_BLUR_MM = 0.8  # deviation in the plane; without it noise would break the lumen up
_AIR_HU = -900.0  # free air has -1000 HU, most lung is denser
_TRACHEA_MM2 = (50.0, 900.0)  # area of the lumen, which is widest just above the carina
_BRONCHUS_MM2 = 10.0  # smallest area of a main bronchus, after partial volume in thick slices
_ROUND = 0.5  # least fraction of its bounding box that the trachea fills; lung between vessels fills less
_OFF_MIDLINE_MM = 40.0  # farthest that the trachea lies from the midline
_DEPTH = (0.3, 0.75)  # where it lies between the front and the back of the lungs, as parts of their depth
_LEAST_LENGTH_MM = 20.0  # of the trachea above the carina
_APART_MM = 8.0  # between the bronchi's centres
_STAY_APART_MM = 7.5  # depth over which the bronchi stay apart; holes that a fold of the membrane parts join again
_WITHIN_SLICE = np.zeros((3, 3, 3), bool)
_WITHIN_SLICE[1] = ndimage.generate_binary_structure(2, 1)

Hole = np.ndarray  # bool [Y, X]: one hole of air in an axial slice


def find_carina(chest: Volume, region: np.ndarray) -> tuple[float, float, float] | None:
    """The point (L, P, S) in mm between the two main bronchi where they part, or None where it is not found.

    `chest`: HU in LPS axes, cropped to both lungs; `region`: bool, the mediastinal region on its grid.
    """
    if not region.any():
        return None
    grid = _air_grid(chest)
    holes = _Holes.of(grid)
    column = midline_column(region) * chest.spacing_mm[2] / grid.spacing_mm[2]
    for top in range(grid.shape[0] - 1, 0, -1):
        for hole in holes.like_trachea(top, column):
            found = _follow(holes, top, hole)
            if found is None:
                continue
            position = grid.affine @ [*found, 1.0]
            index = np.round((np.linalg.inv(chest.affine) @ position)[:3]).astype(int)
            is_between = _DEPTH[0] <= index[1] / region.shape[1] <= _DEPTH[1]
            if is_between and region[tuple(np.clip(index, 0, np.array(region.shape) - 1))]:
                return float(position[0]), float(position[1]), float(position[2])
    return None


def _air_grid(chest: Volume) -> Volume:
    """Free air, bool, on a grid of `_GRID_MM` or coarser."""
    z, y, x = (max(wanted, own) for wanted, own in zip(_GRID_MM, chest.spacing_mm, strict=True))
    coarse = resample_image(chest, (z, y, x))
    smooth = ndimage.gaussian_filter(coarse.array, (0.0, _BLUR_MM / y, _BLUR_MM / x))
    return coarse.with_array(smooth < _AIR_HU)


@dataclass(frozen=True, eq=False)
class _Holes:
    """The pieces of air of every axial slice."""

    labels: np.ndarray  # int32 [Z, Y, X]; each piece of each slice has its own label
    area_mm2: np.ndarray  # by label
    spacing_mm: tuple[float, float, float]

    @classmethod
    def of(cls, grid: Volume) -> _Holes:
        labels, _ = ndimage.label(grid.array, _WITHIN_SLICE)
        _, y, x = grid.spacing_mm
        return cls(labels, np.bincount(labels.ravel()) * y * x, grid.spacing_mm)

    def like_trachea(self, z: int, column: float) -> list[Hole]:
        """The holes of a slice that could be the trachea, nearest to the midline (index `column`) first."""
        found = []
        for label in np.unique(self.labels[z])[1:]:
            if not _TRACHEA_MM2[0] <= self.area_mm2[label] <= _TRACHEA_MM2[1]:
                continue
            hole = self.labels[z] == label
            off = abs(np.nonzero(hole)[1].mean() - column) * self.spacing_mm[2]
            if off <= _OFF_MIDLINE_MM and _is_round(hole):
                found.append((off, hole))
        return [hole for _, hole in sorted(found, key=lambda pair: pair[0])]

    def below(self, z: int, hole: Hole) -> list[Hole]:
        """The holes of slice `z` below `hole` of the slice above, largest first. Empty where they open into a lung."""
        reach = round(max(3.0, 0.7 * self.spacing_mm[0]) / self.spacing_mm[2])  # airways slant by up to 35 degrees
        near = ndimage.binary_dilation(hole, iterations=max(1, reach))
        labels = np.unique(self.labels[z][near])
        labels = labels[(labels > 0) & (self.area_mm2[labels] >= _BRONCHUS_MM2)]
        if (self.area_mm2[labels] > _TRACHEA_MM2[1]).any():
            return []
        return [self.labels[z] == label for label in labels[np.argsort(-self.area_mm2[labels], kind="stable")]]


def _is_round(hole: Hole) -> bool:
    y, x = np.nonzero(hole)
    return bool(len(y) >= _ROUND * (np.ptp(y) + 1) * (np.ptp(x) + 1))


def _follow(holes: _Holes, top: int, hole: Hole) -> tuple[float, float, float] | None:
    """Follow a hole down to where it parts: an index (z, y, x), or None where it ends or opens into a lung."""
    for z in range(top - 1, -1, -1):
        below = holes.below(z, hole)
        if not below:
            return None
        under = [h for h in below if (h & hole).any()]  # holes that overlap it, not those beside it
        if len(under) > 1 and _stay_apart(holes, z, under[0], under[1]):
            long_enough = (top - z) * holes.spacing_mm[0] >= _LEAST_LENGTH_MM
            return (z + 0.5, *_between(under[0], under[1])) if long_enough else None
        hole = np.any(under, axis=0) if under else below[0]
    return None


def _stay_apart(holes: _Holes, z: int, one: Hole, other: Hole) -> bool:
    """Whether two holes are as far apart as bronchi, and continue downwards without meeting."""
    centres = [np.nonzero(hole)[1].mean() * holes.spacing_mm[2] for hole in (one, other)]
    last = z - math.ceil(_STAY_APART_MM / holes.spacing_mm[0])
    if abs(centres[0] - centres[1]) < _APART_MM or last < 0:
        return False
    for deeper in range(z - 1, last - 1, -1):
        ways = [holes.below(deeper, hole) for hole in (one, other)]
        if not all(ways):
            return False
        one, other = ways[0][0], ways[1][0]
        if (one & other).any():
            return False
    return True


def _between(one: Hole, other: Hole) -> tuple[float, float]:
    """The middle (y, x), an index, of the shortest line from one hole to the other."""
    distance, nearest = ndimage.distance_transform_edt(~other, return_indices=True)
    points = np.argwhere(one)
    start = points[np.argmin(distance[one])]
    y, x = (start + nearest[:, start[0], start[1]]) / 2
    return float(y), float(x)
