"""A group of nodes on the grid of a CT: averaged through each slice, and blurred in the plane like the CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.image.volume import Box
from phantom.insertion.draw import Group
from phantom.nodes import Shape

SUBSAMPLES = 5  # planes per slice that are averaged for partial volume


@dataclass(frozen=True, eq=False)
class FittedGroup:
    """A group's nodes in a box of a CT."""

    box: Box
    occupancy: np.ndarray  # float32 [Z, Y, X], from 0 to 1
    offset_hu: np.ndarray  # float32 [Z, Y, X]
    owner: np.ndarray  # uint8 [Z, Y, X]: the member whose surface is nearest, as an index

    def voxels_of(self, member: int) -> np.ndarray:
        """The voxels, bool [Z, Y, X], that are labelled as this member's: at least half full and nearest to it."""
        mine: np.ndarray = (self.occupancy >= 0.5) & (self.owner == member)
        return mine


def box_around(
    centre: np.ndarray, reach_mm: float, spacing_mm: Sequence[float] | np.ndarray, shape: Sequence[int]
) -> Box:
    """The box of a grid within a reach of an index z, y, x, cut at the grid's end. It holds a voxel at least."""
    reach = reach_mm / np.array(spacing_mm)
    low = np.clip(np.floor(centre - reach).astype(int), 0, np.array(shape) - 1)
    high = np.clip(np.ceil(centre + reach).astype(int) + 1, low + 1, shape)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def fit_group(
    group: Group, centre: np.ndarray, shape: Sequence[int], spacing_mm: Sequence[float], sigma_mm: float
) -> FittedGroup:
    """The group at an index z, y, x of a grid of `shape` and `spacing_mm`. `sigma_mm`: the CT's blur in the plane."""
    spacing = np.array(spacing_mm)
    box = box_around(centre, group.reach_mm + 3 * sigma_mm, spacing, shape)
    size = tuple(s.stop - s.start for s in box)
    occupancy, offset = np.zeros(size, np.float32), np.zeros(size, np.float32)
    nearest, owner = np.full(size, np.inf, np.float32), np.zeros(size, np.uint8)
    for number, member in enumerate(group.members):
        at = centre + member.offset_mm / spacing
        part = box_around(at, member.shape.reach_mm + 3 * sigma_mm, spacing, shape)
        inner = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
        distance, filled, added = _fit_shape(member.shape, at, part, spacing, sigma_mm)
        occupancy[inner] = np.minimum(occupancy[inner] + filled, 1.0)  # nodes that touch have no gap between them
        closer = distance < nearest[inner]
        nearest[inner][closer], owner[inner][closer], offset[inner][closer] = distance[closer], number, added[closer]
    return FittedGroup(box, occupancy, offset, owner)


def _fit_shape(
    shape: Shape, centre: np.ndarray, box: Box, spacing: np.ndarray, sigma_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance in mm, occupancy and HU offset of one shape, float32 of the box."""
    z, y, x = (np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True))
    shifts = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    fine_z = (z[:, None] + shifts).ravel()
    axes = (fine_z * spacing[0], y * spacing[1], x * spacing[2])
    grid = np.stack(np.meshgrid(*(a.astype(np.float32) for a in axes), indexing="ij"), axis=-1)
    occupancy, offset = shape.render(grid, edge_mm=float(spacing[1]))
    sigma = (0.0, *(sigma_mm / spacing[1:]))

    def on_grid(a: np.ndarray) -> np.ndarray:
        thick: np.ndarray = a.reshape(len(z), SUBSAMPLES, len(y), len(x)).mean(axis=1)  # [Z, Y, X]
        return thick

    blurred = [ndimage.gaussian_filter(on_grid(a), sigma) for a in (occupancy, offset)]
    return shape.signed_distance(grid[SUBSAMPLES // 2 :: SUBSAMPLES]), blurred[0], blurred[1]
