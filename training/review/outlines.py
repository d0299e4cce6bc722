"""Which voxels a decision is about: a candidate as proposed, grown in the probability, or a ball. On the CT's grid.

Each outline is a box of the grid and a mask (bool [Z, Y, X]) in it. The review page draws the same on its own grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lnq.image.components import label
from lnq.image.volume import Box, Volume, bounding_box

REACH_MM = 30.0
"""How far a node may grow from its point along each axis of the grid. At a low threshold it would fill the chest."""


@dataclass(frozen=True, eq=False)
class Outlined:
    """Voxels of a grid: a box, and a mask (bool [Z, Y, X]) in it."""

    box: Box
    mask: np.ndarray

    @property
    def empty(self) -> bool:
        return not self.mask.any()


def as_proposed(numbers: np.ndarray, candidate: int) -> Outlined:
    """The voxels of a candidate in the candidates' numbers [Z, Y, X]."""
    mask = numbers == candidate
    box = bounding_box(mask)
    return Outlined(box, mask[box])


def grown_from_candidate(numbers: np.ndarray, probability: Volume, candidate: int, threshold: float) -> Outlined:
    """A candidate's outline at another threshold: grown from its most probable voxel."""
    proposed = as_proposed(numbers, candidate)
    if proposed.empty:
        return proposed
    inside = np.where(proposed.mask, probability.array[proposed.box], -1.0)
    local = np.unravel_index(int(inside.argmax()), inside.shape)
    start = tuple(int(i) + side.start for i, side in zip(local, proposed.box, strict=True))
    return grown(probability, start, threshold)


def grown(probability: Volume, start: tuple[int, ...], threshold: float) -> Outlined:
    """The 26-connected voxels around `start` (z, y, x) with at least the threshold's probability, within `REACH_MM`.

    Empty where `start` itself has less.
    """
    reach = [int(REACH_MM / mm) for mm in probability.spacing_mm]
    z, y, x = (slice(max(0, i - r), min(n, i + r + 1)) for i, r, n in zip(start, reach, probability.shape, strict=True))
    labels, _ = label(probability.array[z, y, x] >= threshold)
    here = labels[start[0] - z.start, start[1] - y.start, start[2] - x.start]
    return Outlined((z, y, x), (labels == here) & (here > 0))


def grown_from_point(probability: Volume, lps_mm: tuple[float, float, float], threshold: float) -> Outlined:
    """As `grown`, from the most probable of the voxels around a point. Raises ValueError outside the grid."""
    middle = index_of(probability, lps_mm)
    z, y, x = (slice(max(0, i - 1), i + 2) for i in middle)
    near = probability.array[z, y, x]
    local = np.unravel_index(int(near.argmax()), near.shape)
    start = tuple(int(i) + side.start for i, side in zip(local, (z, y, x), strict=True))
    return grown(probability, start, threshold)


def ball(grid: Volume, lps_mm: tuple[float, float, float], radius_mm: float) -> Outlined:
    """The voxels whose centres lie within a radius of a point, and at least the nearest one.

    Raises ValueError for a point outside the grid.
    """
    middle = index_of(grid, lps_mm)
    reach = [int(np.ceil(radius_mm / mm)) + 1 for mm in grid.spacing_mm]
    z, y, x = (slice(max(0, i - r), min(n, i + r + 1)) for i, r, n in zip(middle, reach, grid.shape, strict=True))
    index = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in (z, y, x)), indexing="ij"), axis=-1)
    centres = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]  # [Z, Y, X, 3]
    mask = np.linalg.norm(centres - np.array(lps_mm), axis=-1) <= radius_mm
    mask[middle[0] - z.start, middle[1] - y.start, middle[2] - x.start] = True
    return Outlined((z, y, x), mask)


def index_of(grid: Volume, lps_mm: tuple[float, float, float]) -> tuple[int, int, int]:
    """The voxel (z, y, x) that holds a point. Raises ValueError for a point outside the grid."""
    index = np.rint(np.linalg.inv(grid.affine)[:3] @ [*lps_mm, 1.0]).astype(int)
    if (index < 0).any() or (index >= grid.shape).any():
        place = ", ".join(f"{mm:g}" for mm in lps_mm)
        raise ValueError(f"The point {place} mm (L, P, S) lies outside the CT")
    return int(index[0]), int(index[1]), int(index[2])
