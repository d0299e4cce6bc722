"""Align two chest CTs of one patient: carina on carina, then an affine transform of the mediastinum and its lungs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from lnq.anatomy.airway import find_carina
from lnq.anatomy.crop import find_crop
from lnq.errors import ImageError
from lnq.image.itk import to_sitk
from lnq.image.resample import reorient_to_lps, resample_image, resample_label_to, resampled_grid
from lnq.image.volume import Volume, bounding_box
from lnq.inference.spec import DEFAULT_CROP

LEAST_OVERLAP = 0.8  # of two mediastinal regions that were aligned well

_GRID_MM = 3.0
_LUNG_REACH_MM = 10.0  # of lung beside the mediastinum that is aligned with it: ribs and arms move otherwise
_BELOW_CARINA_MM = 70.0  # farther below, heart and diaphragm move with the breath more than the rest
_HU = (-1000.0, 300.0)  # so that neither bone nor dense contrast medium decides
_BINS = 32
_SHRINK, _SMOOTH_MM = (2, 1), (3.0, 0.0)  # of the levels
_ROUNDS = 100  # of each level


@dataclass(frozen=True, eq=False)
class Chest:
    """What is aligned of a CT."""

    hu: Volume  # in LPS axes, cropped to both lungs
    region: np.ndarray  # bool: the mediastinal region on its grid
    carina_lps_mm: tuple[float, float, float] | None


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where the points of the earlier CT lie in the later one."""

    matrix: np.ndarray  # [4, 4]: (L, P, S, 1) in mm of the earlier CT -> of the later one
    overlap: float  # Dice of the two aligned mediastinal regions

    def apply(self, points_mm: np.ndarray) -> np.ndarray:
        """Points [N, 3], (L, P, S) in mm, of the earlier CT in the later one."""
        moved: np.ndarray = points_mm @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return moved


def chest_of(ct: Volume, subject: str) -> Chest:
    """What is aligned of a CT in HU, of any orientation. Raises ImageError about `subject` where it has no lungs."""
    lps, _ = reorient_to_lps(ct)
    crop = find_crop(lps, DEFAULT_CROP)
    if not crop.lungs_found:
        raise ImageError("{subject} cannot be compared: no lungs were found in it", subject=subject)
    hu = crop.apply(lps)
    has_region = ct.oriented and crop.lungs_found == 2 and not crop.region.all()
    return Chest(hu, crop.region, find_carina(hu, crop.region) if has_region else None)


def align(earlier: Chest, later: Chest) -> Alignment:
    """Align two chests by the mutual information of their HU, from carina on carina, or from the regions' middles.

    The middles are the start where a carina was not found, and where the carinas lead to no good alignment, because one
    of them is something else. Mattes et al., IEEE Trans Med Imaging 2003;22:120-128, as in ITK. The same chests give
    the same result.
    """
    pairs = [(replace(earlier, carina_lps_mm=None), replace(later, carina_lps_mm=None))]
    if earlier.carina_lps_mm is not None and later.carina_lps_mm is not None:
        pairs.insert(0, (earlier, later))
    found = []
    for pair in pairs:
        found.append(_align_from(*pair))
        if found[-1].overlap >= LEAST_OVERLAP:
            break
    return max(found, key=lambda alignment: alignment.overlap)


def _align_from(earlier: Chest, later: Chest) -> Alignment:
    start = _start(earlier, later)
    try:
        found = _register(_image(earlier.hu), _image(later.hu), _around(earlier), start)
    except RuntimeError:  # ITK's, where the start leaves nothing in common
        found = start
    matrix, centre = np.eye(4), np.array(found.GetCenter())
    matrix[:3, :3] = np.array(found.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = centre + found.GetTranslation() - matrix[:3, :3] @ centre
    matrix = matrix.round(6)  # the last digits depend on the order in which threads add up
    return Alignment(matrix, _overlap(earlier, later, matrix))


def _image(hu: Volume) -> sitk.Image:
    z, y, x = (max(_GRID_MM, own) for own in hu.spacing_mm)
    coarse = resample_image(hu, (z, y, x))
    return to_sitk(coarse.with_array(np.clip(coarse.array, *_HU)))


def _around(chest: Chest) -> sitk.Image:
    """The mediastinal region and the lung beside it, on the grid of `_image`."""
    z, y, x = (max(_GRID_MM, own) for own in chest.hu.spacing_mm)
    grid = _grid(chest.hu, (z, y, x))
    region = resample_label_to(chest.hu.with_array(chest.region), grid).array > 0
    if chest.carina_lps_mm is not None:
        lowest = (np.linalg.inv(grid.affine) @ [*chest.carina_lps_mm, 1.0])[0] - _BELOW_CARINA_MM / z
        region[: max(0, int(lowest))] = False
    near = ndimage.distance_transform_edt(~region, grid.spacing_mm) <= _LUNG_REACH_MM
    return to_sitk(grid.with_array(near.astype(np.uint8)))


def _start(earlier: Chest, later: Chest) -> sitk.AffineTransform:
    centre, to = (np.array(_middle(chest)) for chest in (earlier, later))
    if earlier.carina_lps_mm is not None and later.carina_lps_mm is not None:
        centre, to = np.array(earlier.carina_lps_mm), np.array(later.carina_lps_mm)
    start = sitk.AffineTransform(3)
    start.SetCenter(centre.tolist())
    start.SetTranslation((to - centre).tolist())
    return start


def _middle(chest: Chest) -> list[float]:
    box = bounding_box(chest.region)
    middle = [(part.start + part.stop - 1) / 2 for part in box]
    return (chest.hu.affine @ [*middle, 1.0])[:3].tolist()


def _register(
    fixed: sitk.Image, moving: sitk.Image, mask: sitk.Image, start: sitk.AffineTransform
) -> sitk.AffineTransform:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.02, _ROUNDS, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(_SHRINK))
    method.SetSmoothingSigmasPerLevel(list(_SMOOTH_MM))
    method.SetInitialTransform(sitk.AffineTransform(start), inPlace=True)
    return sitk.AffineTransform(method.Execute(fixed, moving))


def _overlap(earlier: Chest, later: Chest, matrix: np.ndarray) -> float:
    """Dice of the two regions, the later one on the earlier one's grid."""
    grid = _grid(earlier.hu, (_GRID_MM, _GRID_MM, _GRID_MM))
    own = resample_label_to(earlier.hu.with_array(earlier.region), grid).array > 0
    moved = Volume(later.region, np.linalg.inv(matrix) @ later.hu.affine)
    other = resample_label_to(moved, grid).array > 0
    both = own.sum() + other.sum()
    return float(2 * (own & other).sum() / both) if both else 0.0


def _grid(hu: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    shape, affine = resampled_grid(hu, spacing_mm)
    return Volume(np.broadcast_to(np.uint8(0), shape), affine)
