"""Nodes that are too large for the fat around them push the tissue outward, so that vessels bend round them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.image.volume import Box
from phantom.insertion.draw import Group
from phantom.insertion.tissue import RIGID

SMALL_MM, LARGE_MM = 7.0, 12.0  # short axes: up to the first nothing is pushed, from the second on all of it
DEPTH = 0.5  # pushed depth as a part of the node's half-thickness; what lies deeper is replaced
MOST_MM = 12.0  # the largest depth, for tissue is fixed somewhere
RANGE = 1.6  # reach L as a multiple of the depth D; below 1 tissue would be squeezed to less than half
LIMIT = 4.0  # the push ends at this multiple of L
_STEP_MM = 2.0  # of the grid on which it is computed


@dataclass(frozen=True)
class Push:
    """How far tissue is pushed: u(s) = D exp(-s / L) at a distance s from the surface, brought to 0 at 4 L."""

    depth_mm: float  # D
    range_mm: float  # L

    @property
    def limit_mm(self) -> float:
        """The distance from the surface at which nothing is pushed any more."""
        return LIMIT * self.range_mm

    def by_mm(self, distance_mm: np.ndarray) -> np.ndarray:
        """u at distances from the surface. Within the node it is D."""
        falling = np.exp(-np.clip(distance_mm, 0, self.limit_mm) / self.range_mm)
        end = np.exp(-LIMIT)
        by: np.ndarray = self.depth_mm * (falling - end) / (1 - end)
        return by


def push_of(short_axis_mm: float) -> Push:
    """The push of a node, or of a cluster by its largest node."""
    part = np.clip((short_axis_mm - SMALL_MM) / (LARGE_MM - SMALL_MM), 0, 1)
    depth_mm = float(min(DEPTH * short_axis_mm / 2 * part, MOST_MM))
    return Push(depth_mm, RANGE * depth_mm)


def displacement_mm(
    group: Group, centre: np.ndarray, push: Push, classes: np.ndarray, box: Box, spacing_mm: Sequence[float]
) -> np.ndarray:
    """How far the tissue that comes to lie at each voxel of a box has been pushed, [3, Z, Y, X], z, y, x in mm.

    The direction is the gradient of the distance to the group's surface, smoothed. It is short where the gradient is
    not unique, as between two nodes, so nothing tears. `classes`: the CT's, whose rigid ones stay: nearer to them than
    twice D the push falls to 0. So neighbours keep their order: along the gradient the way back is monotone, as its
    slope is 1 - u'(s) > 0.
    """
    spacing = np.array(spacing_mm)
    starts = [s.start for s in box]
    sizes_mm = [(s.stop - s.start - 1) * d for s, d in zip(box, spacing, strict=True)]
    axes = [np.arange(0, size + _STEP_MM, _STEP_MM) for size in sizes_mm]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inside = group.signed_distance((points - (centre - starts) * spacing).astype(np.float32)) < 0
    outward, inward = (ndimage.distance_transform_edt(mask) for mask in (~inside, inside))
    distance = np.where(inside, 0.5 - inward, outward - 0.5) * _STEP_MM  # the surface lies between the points
    distance = ndimage.gaussian_filter(distance, 1.0)
    nearest = [
        np.minimum(np.rint(a / d).astype(int) + s, n - 1)
        for a, d, s, n in zip(axes, spacing, starts, classes.shape, strict=True)
    ]
    rigid = np.isin(classes[np.ix_(*nearest)], RIGID)
    by = push.by_mm(distance)
    if rigid.any():
        away = ndimage.distance_transform_edt(~rigid) * _STEP_MM - _STEP_MM
        by *= np.clip(away / (2 * push.depth_mm), 0, 1)
    coarse = np.stack(np.gradient(distance, _STEP_MM)) * by
    at = np.meshgrid(
        *(np.arange(s.stop - s.start) * d / _STEP_MM for s, d in zip(box, spacing, strict=True)), indexing="ij"
    )
    return np.stack([ndimage.map_coordinates(c.astype(np.float32), at, order=1) for c in coarse])


def pushed(values: np.ndarray, moved_mm: np.ndarray, spacing_mm: Sequence[float], order: int) -> np.ndarray:
    """Values [Z, Y, X] after a displacement [3, Z, Y, X] in mm: each comes from where the tissue was.

    Values that are moved by less than a hundredth of a voxel stay as they are. `order`: of the spline.
    """
    moved = moved_mm / np.array(spacing_mm).reshape(3, 1, 1, 1)
    where = np.abs(moved).max(axis=0) > 0.01
    source = np.argwhere(where).T - moved[:, where]
    result = values.copy()
    result[where] = ndimage.map_coordinates(values, source, order=order, mode="nearest")
    return result
