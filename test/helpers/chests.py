"""Simple chests drawn at any orientation: heart to the left, liver to the right, nodes in the fat.

Faults can be planted in the label, or left and right swapped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine

NODES_MM = ((-18.0, -12.0, 66.0), (16.0, 4.0, 59.0), (-4.0, -26.0, 42.0), (12.0, -26.0, 84.0))  # L, P, S
RADIUS_MM = 9.0
NODE_HU, FAT_HU, BLOOD_HU, BONE_HU = 75.0, -100.0, 180.0, 450.0
AORTA_MM, SPINE_MM, LUNG_MM, AXILLA_MM = (8.0, 32.0), (0.0, 78.0), (-75.0, 0.0, 50.0), (128.0, 0.0, 60.0)
SIZE_MM = (246.0, 224.0, 312.0)  # z, y, x
SPACING_MM = (4.0, 3.0, 3.0)


def grid(direction: np.ndarray | None = None, spacing_mm: tuple[float, float, float] = SPACING_MM) -> Volume:
    """An empty CT around the chest, along the axes of `direction` ([3, 3], unit columns z, y, x; default LPS)."""
    direction = np.eye(3)[::-1] if direction is None else direction
    extent = np.abs(np.linalg.inv(direction) @ np.diag(SIZE_MM[::-1])).sum(axis=1)  # of the chest's box, along z, y, x
    shape = np.ceil(extent / spacing_mm).astype(int)
    affine = make_affine(spacing_mm, direction=direction)
    affine[:3, 3] = (0.0, 0.0, 20.0) - affine[:3, :3] @ ((shape - 1) / 2)
    return Volume(np.zeros(shape, np.int16), affine)


def draw_chest(place: Volume, seed: int = 0) -> tuple[Volume, Volume]:
    """A CT on a grid, and its label. Patients differ by their seed in size and in where heart and liver lie."""
    rng = np.random.default_rng(seed)
    left, back, up = positions(place)
    size, heart_mm = 1 + rng.normal(0, 0.03), rng.normal(28, 4)
    hu = np.full(place.shape, -1000.0)
    hu[(left / (145 * size)) ** 2 + (back / (106 * size)) ** 2 <= 1] = 45
    hu[_ellipsoid(left, back, up, (0, 0, 30), (100, 78, 118))] = FAT_HU
    for side in (1, -1):
        hu[_ellipsoid(left, back, up, (72 * side, 0, 30), (46 * size, 74, 98 * size))] = -850
    hu[_ellipsoid(left, back, up, (heart_mm, -18, -22), (46, 44, 40))] = BLOOD_HU
    hu[_ellipsoid(left, back, up, (-70, 0, -86), (60, 70, 45 + rng.normal(0, 4)))] = 60
    hu[np.hypot(left - AORTA_MM[0], back - AORTA_MM[1]) <= 11] = BLOOD_HU
    spine = np.hypot(left - SPINE_MM[0], back - SPINE_MM[1]) <= 18
    hu[spine] = BONE_HU + 250 * np.sin(left[spine] / 3) * np.sin(up[spine] / 4)  # spongy
    nodes = np.any([_ball(place, node, RADIUS_MM) for node in NODES_MM], axis=0)
    hu[nodes] = NODE_HU
    noisy = hu + rng.normal(0, 8, place.shape)
    return place.with_array(noisy.round().astype(np.int16)), place.with_array(nodes.astype(np.uint8))


def positions(place: Volume) -> np.ndarray:
    """L, P and S of each voxel, [3, Z, Y, X]."""
    index = np.indices(place.shape).reshape(3, -1)
    return (place.affine[:3, :3] @ index + place.affine[:3, 3:]).reshape(3, *place.shape)


def with_ball(label: Volume, centre_mm: tuple[float, float, float], radius_mm: float = RADIUS_MM) -> Volume:
    """A label with one more node."""
    return label.with_array(label.array | _ball(label, centre_mm, radius_mm).astype(np.uint8))


def moved(label: Volume, by_mm: tuple[float, float, float]) -> Volume:
    """A label whose file says that it lies elsewhere, by (L, P, S)."""
    affine = label.affine.copy()
    affine[:3, 3] += by_mm
    return Volume(label.array, affine)


def swapped(volume: Volume) -> Volume:
    """The same file with left and right swapped: its array is mirrored, its geometry is not."""
    axis = int(np.abs(volume.direction[0]).argmax())
    return volume.with_array(np.ascontiguousarray(np.flip(volume.array, axis)))


def write_chest(folder: Path, name: str, ct: Volume, label: Volume) -> None:
    """Write a pair as the challenge has them."""
    folder.mkdir(exist_ok=True)
    write_volume(ct, folder / f"{name}-ct.nrrd")
    write_volume(label, folder / f"{name}-seg.nrrd")


def _ball(place: Volume, centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    apart = positions(place) - np.array(centre_mm)[:, None, None, None]
    inside: np.ndarray = np.linalg.norm(apart, axis=0) <= radius_mm
    return inside


def _ellipsoid(left: np.ndarray, back: np.ndarray, up: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    parts = zip((left, back, up), centre, radii, strict=True)
    inside: np.ndarray = sum(((axis - c) / r) ** 2 for axis, c, r in parts) <= 1
    return inside
