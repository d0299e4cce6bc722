"""Which voxels a decision is about: a candidate as proposed, grown in the probability, or a ball. On the CT's grid.

Each outline is a box of the grid and a mask (bool [Z, Y, X]) in it. The review page draws the same on its own grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lnq.image.components import label
from lnq.image.volume import Box, Volume, bounding_box

Point = tuple[float, float, float]  # L, P, S in mm

REACH_MM = 30.0
"""How far a node may grow from its point along each axis of the grid. At a low threshold it would fill the chest."""
NEAR_MM = 3.0
"""How far from a point the voxel may lie that a node grows from, along each axis."""


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


def grown_from_start(probability: Volume, start_mm: Point, threshold: float) -> Outlined:
    """A candidate's outline at another threshold: grown from the voxel at a point, where it is most probable.

    A threshold above that voxel's probability counts as that. Raises ValueError for a point outside the grid.
    """
    start = index_of(probability, start_mm)
    return grown(probability, start, min(threshold, float(probability.array[start])))


def grown(probability: Volume, start: tuple[int, ...], threshold: float) -> Outlined:
    """The 26-connected voxels around `start` (z, y, x) with at least the threshold's probability, within `REACH_MM`.

    Empty where `start` itself has less.
    """
    reach = [int(REACH_MM / mm) for mm in probability.spacing_mm]
    z, y, x = (slice(max(0, i - r), min(n, i + r + 1)) for i, r, n in zip(start, reach, probability.shape, strict=True))
    labels, _ = label(probability.array[z, y, x] >= threshold)
    here = labels[start[0] - z.start, start[1] - y.start, start[2] - x.start]
    return Outlined((z, y, x), (labels == here) & (here > 0))


def grown_from_point(probability: Volume, lps_mm: Point, threshold: float) -> Outlined:
    """As `grown_from_start`, from the most probable voxel within `NEAR_MM` of a point.

    Pages show a coarser grid, whose voxels may lie beside the CT's. Empty where nothing is probable at all. Raises
    ValueError for a point outside the grid.
    """
    middle = index_of(probability, lps_mm)
    reach = [max(1, int(NEAR_MM / mm)) for mm in probability.spacing_mm]
    z, y, x = (slice(max(0, i - r), i + r + 1) for i, r in zip(middle, reach, strict=True))
    near = probability.array[z, y, x]
    local = np.unravel_index(int(near.argmax()), near.shape)
    start = tuple(int(i) + side.start for i, side in zip(local, (z, y, x), strict=True))
    highest = float(near.max())
    return grown(probability, start, min(threshold, highest)) if highest > 0 else Outlined((z, y, x), near > 0)


def ball(grid: Volume, lps_mm: Point, radius_mm: float) -> Outlined:
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


def index_of(grid: Volume, lps_mm: Point) -> tuple[int, int, int]:
    """The voxel (z, y, x) that holds a point. Raises ValueError for a point outside the grid."""
    index = np.rint(np.linalg.inv(grid.affine)[:3] @ [*lps_mm, 1.0]).astype(int)
    if (index < 0).any() or (index >= grid.shape).any():
        place = ", ".join(f"{mm:g}" for mm in lps_mm)
        raise ValueError(f"The point {place} mm (L, P, S) lies outside the CT")
    return int(index[0]), int(index[1]), int(index[2])
