"""What lies where between the lungs of a real CT, as one class for each voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

LUNG, FAT, SOFT, DEEP, AIRWAY, BONE, WALL, NODE = range(8)
# SOFT: vessel, oesophagus, muscle, and the rim of what is DEEP: heart, aorta, liver. WALL: all that is out of bounds,
# such as the chest wall. NODE: inserted before.
RIGID = (AIRWAY, BONE, WALL, NODE)  # what a growing node does not push

SOFT_HU = -20.0  # in the smoothed CT
LUNG_HU = -250.0
DEEP_MM = 5.0  # from the surface of soft tissue
BONE_HU = 180.0
_BONE_GAP_MM = 4.0  # half-width of the gaps between cortical bone that are closed
_AIR_HU = -500.0
_AIRWAY_MM2 = 900.0  # largest area of an airway in an axial slice; lungs are larger
STERNUM_DEPTH, VERTEBRA_DEPTH, SPINE_DEPTH = 0.12, 0.6, 0.72  # parts of the region's depth, from the front
_SPINE_HALF_WIDTH_MM = 20.0
_IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]


@dataclass(frozen=True, eq=False)
class Between:
    """The space between the lungs and where a voxel lies in it."""

    region: np.ndarray  # bool [Z, Y, X], without a margin
    depth: np.ndarray  # float [Z, Y, 1]: 0 at the region's front, 1 at its back
    height: np.ndarray  # float [Z, 1, 1]: 0 at the region's top, 1 at its bottom
    from_midline_mm: np.ndarray  # float [1, 1, X]

    @classmethod
    def of(cls, region: np.ndarray, midline: float, column_mm: float) -> Between:
        """Of a region, bool [Z, Y, X], which is not empty. `midline`: a column. `column_mm`: spacing along x."""
        used = np.flatnonzero(np.any(region, axis=(1, 2)))
        height = (used[-1] - np.arange(len(region))) / max(1, used[-1] - used[0])
        occupied = np.asarray(region.any(axis=2))  # [Z, Y]
        front = occupied.argmax(axis=1)
        back = occupied.shape[1] - occupied[:, ::-1].argmax(axis=1)
        depth = (np.arange(occupied.shape[1])[None] - front[:, None]) / np.maximum(back - front, 1)[:, None]
        from_midline = np.abs(np.arange(region.shape[2]) - midline) * column_mm
        return cls(region, depth[:, :, None], height[:, None, None], from_midline[None, None])


def classify(
    smooth: np.ndarray, between: Between, allowed: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """The class of each voxel, uint8 [Z, Y, X]. `smooth`: HU without noise. `allowed`: bool, where nodes may lie."""
    soft = smooth > SOFT_HU
    classes = np.where(smooth < LUNG_HU, LUNG, np.where(soft, SOFT, FAT)).astype(np.uint8)
    classes[ndimage.distance_transform_edt(soft, spacing_mm) > DEEP_MM] = DEEP
    classes[~allowed & (classes != LUNG)] = WALL
    classes[_bone(smooth, between, spacing_mm)] = BONE
    classes[_airways(smooth, allowed, spacing_mm)] = AIRWAY
    return classes


def _bone(smooth: np.ndarray, between: Between, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Sternum, ribs and vertebrae. Bright vessels within the region are none."""
    outside = ~between.region | (between.depth < STERNUM_DEPTH) | (between.depth > VERTEBRA_DEPTH)
    cortical = (smooth > BONE_HU) & outside
    iterations = max(1, round(_BONE_GAP_MM / spacing_mm[1]))
    closed = ndimage.binary_closing(cortical, _IN_PLANE, iterations) | cortical
    spine = (between.depth > SPINE_DEPTH) & (between.from_midline_mm <= _SPINE_HALF_WIDTH_MM) & (smooth > SOFT_HU)
    bone: np.ndarray = closed | (between.region & spine)
    return bone


def _airways(smooth: np.ndarray, allowed: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Trachea and bronchi: small holes of air in an axial slice."""
    labels, _ = ndimage.label(
        smooth < _AIR_HU, ndimage.generate_binary_structure(3, 1) & (np.arange(3) == 1)[:, None, None]
    )
    area_mm2 = np.bincount(labels.ravel()) * spacing_mm[1] * spacing_mm[2]
    area_mm2[0] = np.inf
    airways: np.ndarray = (area_mm2 <= _AIRWAY_MM2)[labels] & allowed
    return airways
