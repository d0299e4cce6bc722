"""A node's tissue: a block of the CT's own soft tissue, so that its noise and grain are the CT's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SIZES_MM = (12.0, 18.0, 27.0, 40.0, 60.0)  # of the blocks that are looked for
DRAWN, COMPARED = 300, 12  # of so many blocks the nearest are compared, because noise differs between places
# Of the blocks compared, sorted by spread, the one at this part is taken. The widest spreads hold a border of tissues.
QUIET = 0.25
LIKE = 1.15  # most spread of a large block, as a multiple of that of the nearest small ones: it may lie in the liver
SOFT_HU = (0.0, 800.0)  # range of soft tissue and blood in the smoothed CT
APART_MM = 2.5  # homogeneous tissue is farther than this from any border
BORDER = 3.0  # times the usual gradient within soft tissue are a border
_COARSE_MM = 2.0  # deviation of the blur at which borders stand out from noise


@dataclass(frozen=True, eq=False)
class BlockSites:
    """Where blocks of one size lie in homogeneous tissue."""

    size: tuple[int, int, int]  # voxels
    corners: np.ndarray  # index z, y, x of their first voxels, int [N, 3]; not empty


def find_homogeneous(smooth: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Soft tissue far from borders, bool [Z, Y, X]: muscle, liver, blood. `smooth`: HU without most of the noise.

    With contrast medium the heart's muscle and its blood part, so that borders are looked for within soft tissue too.
    """
    soft = (smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1])
    spacing = np.array(spacing_mm)
    blurred = ndimage.gaussian_filter(np.clip(smooth, -200, 1000), _COARSE_MM / spacing)
    squared = sum((np.gradient(blurred, step, axis=axis)) ** 2 for axis, step in enumerate(spacing))
    inside = ndimage.distance_transform_edt(soft, spacing) > 2 * _COARSE_MM
    border = squared > BORDER**2 * np.median(squared[inside]) if inside.any() else ~inside
    homogeneous: np.ndarray = ndimage.distance_transform_edt(soft & ~border, spacing) > APART_MM
    return homogeneous


def find_sites(
    homogeneous: np.ndarray, corner: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[BlockSites, ...]:
    """The sites in a mask, bool [Z, Y, X], whose first voxel has index `corner` in the CT. Smallest blocks first."""
    sites = []
    for wanted in SIZES_MM:
        z, y, x = (max(2, round(wanted / s)) for s in spacing_mm)
        if any(n > m for n, m in zip((z, y, x), homogeneous.shape, strict=True)):
            break
        fits = homogeneous
        for axis, length in enumerate((z, y, x)):  # a block fits where all voxels from its corner on are homogeneous
            fits = ndimage.minimum_filter1d(fits, length, axis, mode="constant", origin=-(length // 2))
        corners = np.argwhere(fits)
        if len(corners) == 0:
            break
        sites.append(BlockSites((z, y, x), corners + corner))
    return tuple(sites)


def draw_texture(
    rng: np.random.Generator,
    ct: np.ndarray,
    sites: Sequence[BlockSites],
    size: Sequence[int],
    near: np.ndarray,
    spacing_mm: Sequence[float],
) -> np.ndarray:
    """Tissue of median 0 HU, float32 of `size` voxels, for a place `near`, an index z, y, x in the CT.

    It is one block as it is where one is large enough. Else blocks, some of them mirrored, lie side by side. Where two
    overlap, they are mixed by weights whose squares add up to 1, which keeps the spread of their noise. All are 0 where
    there are no sites.
    """
    if not sites:
        return np.zeros(tuple(size), np.float32)
    site = _choose_site(rng, ct, sites, size, near, spacing_mm)
    overlaps = [n // 3 for n in site.size]
    starts = [_starts(m, n, o) for m, n, o in zip(size, site.size, overlaps, strict=True)]
    total, squares = np.zeros(tuple(size), np.float32), np.zeros(tuple(size), np.float32)
    for corner in np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 3):
        weight = _weight(corner, size, site.size, overlaps)
        box = tuple(slice(c, c + n) for c, n in zip(corner, weight.shape, strict=True))
        block = _draw_block(rng, ct, site, near, spacing_mm)[tuple(slice(n) for n in weight.shape)]
        total[box] += weight * block
        squares[box] += weight**2
    texture = total / np.sqrt(squares)
    centred: np.ndarray = texture - np.median(texture)
    return centred


def _starts(wanted: int, block: int, overlap: int) -> np.ndarray:
    """Where blocks start along an axis, so that they cover it."""
    return np.arange(0, max(1, wanted - overlap), block - overlap)


def _weight(corner: np.ndarray, size: Sequence[int], block: Sequence[int], overlaps: Sequence[int]) -> np.ndarray:
    """Weights [Z, Y, X] of a block at a corner: they rise over the overlap with the blocks before, and fall after."""
    weight = np.ones((1, 1, 1), np.float32)
    for axis, (start, whole, length, overlap) in enumerate(zip(corner, size, block, overlaps, strict=True)):
        place = np.arange(min(length, whole - start)) + 0.5
        rise = place / max(1, overlap) if start > 0 else np.ones_like(place)
        fall = (length - place) / max(1, overlap) if start + length < whole else np.ones_like(place)
        ramp = np.sqrt(np.clip(np.minimum(rise, fall), 0.01, 1.0)).astype(np.float32)
        weight = weight * ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    return weight


def _choose_site(
    rng: np.random.Generator,
    ct: np.ndarray,
    sites: Sequence[BlockSites],
    size: Sequence[int],
    near: np.ndarray,
    spacing_mm: Sequence[float],
) -> BlockSites:
    """The smallest size of blocks that covers `size`, or the largest, if its noise is that of the small ones nearby."""
    usual = _draw_block(rng, ct, sites[0], near, spacing_mm).std()
    enough = [n for n, site in enumerate(sites) if all(a >= b for a, b in zip(site.size, size, strict=True))]
    for site in reversed(sites[: enough[0] + 1] if enough else sites):
        if _draw_block(rng, ct, site, near, spacing_mm).std() <= LIKE * usual:
            return site
    return sites[0]


def _draw_block(
    rng: np.random.Generator, ct: np.ndarray, site: BlockSites, near: np.ndarray, spacing_mm: Sequence[float]
) -> np.ndarray:
    """One of the quieter ones of the nearest blocks of some, less its median, mirrored at random."""
    corners = site.corners[rng.integers(len(site.corners), size=DRAWN)]
    away_mm = np.linalg.norm((corners + np.array(site.size) / 2 - near) * spacing_mm, axis=1)
    nearest = corners[np.argsort(away_mm, kind="stable")[:COMPARED]]
    blocks = [ct[tuple(slice(c, c + n) for c, n in zip(corner, site.size, strict=True))] for corner in nearest]
    order = np.argsort([block.std() for block in blocks], kind="stable")
    block = blocks[order[int(QUIET * COMPARED)]].astype(np.float32)
    mirrored = tuple(slice(None, None, int(step)) for step in rng.choice([-1, 1], size=3))
    centred: np.ndarray = (block - np.median(block))[mirrored]
    return centred
