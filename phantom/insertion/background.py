"""What insertion needs to know of a real CT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.anatomy.airway import find_carina
from lnq.anatomy.crop import Crop, find_crop
from lnq.anatomy.region import midline_column
from lnq.errors import ImageError
from lnq.image.volume import Volume
from lnq.inference.spec import CropSpec
from phantom.insertion.block import BlockSites, find_homogeneous, find_sites
from phantom.insertion.sharpness import edge_sigma_mm
from phantom.insertion.tissue import STERNUM_DEPTH, VERTEBRA_DEPTH, WALL, Between, classify

FAT_HU = (-150.0, -40.0)  # range of fat in the smoothed CT
OESOPHAGUS_DEPTH, BEFORE_SPINE_DEPTH = 0.4, 0.68  # parts of the region's depth, from the front
LOWER_CHEST = 0.62  # part of the lungs' height from the apex at which the lower chest begins
SPINE_HALF_WIDTH_MM = 35.0  # with the ribs' heads
MIDLINE_MM = 30.0  # how far from the midline nodes lie in the lower chest; beyond is the fat of stomach and liver
REGION = CropSpec(region_margin_mm=0.0)  # the lungs' box, and the space between them alone
ALLOWED = CropSpec()  # with the margin that nodes may lie in


@dataclass(frozen=True, eq=False)
class Background:
    """A real CT with LPS axes, and what insertion needs to know of it."""

    ct: Volume
    classes: np.ndarray  # uint8 [Z, Y, X], of phantom.insertion.tissue
    candidates: np.ndarray  # indices of voxels of mediastinal fat, [N, 3]
    carina: np.ndarray | None  # index z, y, x, where it is found
    lungs_mm: tuple[float, float, float]  # extent z, y, x of both lungs
    sites: tuple[BlockSites, ...]  # where blocks of the CT's own soft tissue lie
    edge_sigma_mm: float  # in-plane blur by scanner and kernel
    soft_hu: float  # median of heart and great vessels
    phase: str  # contrast phase, one of phantom.patient.PHASES


def study_background(volume: Volume) -> Background:
    """Find the tissues, the carina, homogeneous blocks, sharpness and contrast phase of a CT with LPS axes.

    Raises ImageError where the two lungs or the fat between them cannot be found.
    """
    crop = find_crop(volume, REGION)
    if crop.lungs_found < 2 or not crop.region.any():
        raise ImageError("nodes can only be inserted into a CT with two lungs")
    inner = crop.apply(volume)
    smooth = _smooth(inner.array, volume.spacing_mm, 1.2)
    corner = np.array([s.start for s in crop.box])
    carina = _carina(inner, crop)
    middle = midline_column(crop.region) if carina is None else float(carina[2])
    between = Between.of(crop.region, middle, volume.spacing_mm[2])
    fat = _stations(between) & (smooth > FAT_HU[0]) & (smooth < FAT_HU[1])
    candidates = np.argwhere(fat) + corner
    if len(candidates) < 100:
        raise ImageError("there is no mediastinal fat in this CT to insert nodes into")
    classes = np.full(volume.shape, WALL, np.uint8)
    classes[crop.box] = classify(smooth, between, find_crop(volume, ALLOWED).region, volume.spacing_mm)
    spine = (between.depth > VERTEBRA_DEPTH) & (between.from_midline_mm <= SPINE_HALF_WIDTH_MM)
    homogeneous = find_homogeneous(smooth, volume.spacing_mm) & ~spine  # marrow has a grain of its own
    central = crop.region & homogeneous
    soft_hu = float(np.median(smooth[central])) if central.any() else 40.0
    return Background(
        ct=volume,
        classes=classes,
        candidates=candidates,
        carina=None if carina is None else carina + corner,
        lungs_mm=_lungs_mm(inner, REGION.margin_mm),
        sites=find_sites(homogeneous, corner, volume.spacing_mm),
        edge_sigma_mm=edge_sigma_mm(volume),
        soft_hu=soft_hu,
        phase="none" if soft_hu < 90 else "arterial" if soft_hu > 200 else "venous",
    )


def _carina(inner: Volume, crop: Crop) -> np.ndarray | None:
    """The carina's index z, y, x in the box of both lungs."""
    found = find_carina(inner, crop.region)
    if found is None:
        return None
    index: np.ndarray = (np.linalg.inv(inner.affine) @ [*found, 1.0])[:3]
    return index


def _lungs_mm(inner: Volume, margin_mm: float) -> tuple[float, float, float]:
    z, y, x = (n * s - 2 * margin_mm for n, s in zip(inner.shape, inner.spacing_mm, strict=True))
    return z, y, x


def _stations(between: Between) -> np.ndarray:
    """The part of the space between the lungs, bool [Z, Y, X], where mediastinal nodes lie.

    Nodes lie behind the sternum and before the spine. In the lower third of the chest they lie only beside the
    oesophagus, so near the midline.
    """
    low = between.height > LOWER_CHEST
    depth = between.depth
    allowed = (depth < BEFORE_SPINE_DEPTH) & (depth > np.where(low, OESOPHAGUS_DEPTH, STERNUM_DEPTH))
    stations: np.ndarray = between.region & allowed & ((between.from_midline_mm <= MIDLINE_MM) | ~low)
    return stations


def _smooth(array: np.ndarray, spacing_mm: tuple[float, float, float], sigma_mm: float) -> np.ndarray:
    """Smooth HU [Z, Y, X] in the plane alone, so that thick slices keep their own HU."""
    sigma = (0.0, sigma_mm / spacing_mm[1], sigma_mm / spacing_mm[2])
    smooth: np.ndarray = ndimage.gaussian_filter(np.maximum(array, -1024).astype(np.float32), sigma)
    return smooth
