"""Checks that an image can be segmented, and warnings about an unusual one."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lnq.errors import ImageError, Message
from lnq.image.volume import Volume, bounding_box

SPACING_MM = (0.2, 15.0)  # range of voxel spacings of chest CTs
FIELD_MM = (100.0, 800.0)  # extent across the patient; a smaller one shows no mediastinum, no scanner has a larger one
LONGEST_MM = 2500.0  # along the patient: whole-body scans are CTs too
_FARTHEST_MM = 1e6  # largest entry of the affine: positions from the origin, and spacings
_ROTATION_TOLERANCE = 1e-3  # largest dot product error of the direction columns
_TISSUE_HU = -200  # air and lung lie below, everything else above
MOST_HU = 2**16  # metal reaches 30,000 on extended scales
_LEAST_TISSUE = 1e-3  # fraction of the voxels
_THICK_SLICE_MM = 5.0
_NOISE_HU = 55.0  # above the noise of the training phantoms, 7 to 54 HU
CONTRAST_HU = 85.0  # blood has 30 to 60 HU without contrast medium, over 100 HU with it


def check_image(volume: Volume, name: str = "The image") -> None:
    """Raise ImageError for a volume that is not a usable CT. The error is one sentence that begins with `name`."""
    check_geometry(volume, name)
    problem = _voxel_problem(volume.array)
    if problem:
        raise ImageError("{subject} cannot be used: {problem}", subject=name, problem=problem)


def check_geometry(volume: Volume, name: str) -> None:
    """Like `check_image`, without a look at the voxels."""
    problem = _geometry_problem(volume)
    if problem:
        raise ImageError("{subject} cannot be used: {problem}", subject=name, problem=problem)


def _geometry_problem(volume: Volume) -> Message | None:
    if min(volume.shape) == 0:
        return Message("it has no voxels")
    if min(volume.shape) == 1:
        return Message("it is a single slice: a CT volume is needed")
    if not np.abs(volume.affine).max() < _FARTHEST_MM:
        return Message("its position or spacing is not a usable number")
    low, high = SPACING_MM
    if not all(low <= s <= high for s in volume.spacing_mm):
        z, y, x = volume.spacing_mm
        outside = "its voxel spacing {x:.4g} x {y:.4g} x {z:.4g} mm lies outside {low:g}-{high:g} mm"
        return Message(outside, x=x, y=y, z=z, low=low, high=high)
    cosines = volume.direction.T @ volume.direction
    if np.abs(cosines - np.eye(3)).max() > _ROTATION_TOLERANCE:
        return Message("its orientation matrix is not a rotation")
    return _extent_problem(volume)


def _extent_problem(volume: Volume) -> Message | None:
    """What is wrong with the field of view. The array axis nearest to the patient's axis counts as its length."""
    extent_mm = [size * spacing for size, spacing in zip(volume.shape, volume.spacing_mm, strict=True)]
    along_mm = extent_mm.pop(int(np.abs(volume.direction[2]).argmax()))
    low, high = FIELD_MM
    if not all(low <= e <= high for e in extent_mm):
        outside = "its field of view of {x:.4g} x {y:.4g} mm lies outside {low:g}-{high:g} mm"
        return Message(outside, x=extent_mm[1], y=extent_mm[0], low=low, high=high)
    if along_mm > LONGEST_MM:
        return Message("it is {length:.0f} mm long, more than {most:g} mm", length=along_mm, most=LONGEST_MM)
    return None


def _voxel_problem(array: np.ndarray) -> Message | None:
    if array.dtype.itemsize == 1:
        return Message("its voxels have 8 bits: CT values in HU need 16")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return Message("it holds NaN or infinite values")
    low, high = array.min().item(), array.max().item()
    if max(abs(low), abs(high)) > MOST_HU:
        return Message("its values are not HU: they go from {low:.3g} to {high:.3g}", low=low, high=high)
    if low >= _TISSUE_HU:
        return Message("its values are not HU: none lies below {limit}", limit=_TISSUE_HU)
    if np.count_nonzero(array > _TISSUE_HU) < _LEAST_TISSUE * array.size:
        return Message("it shows only air")
    return None


def warnings_for(chest: Volume, region: np.ndarray, lungs_found: int) -> tuple[str, ...]:
    """What makes a CT unlike the training data, one sentence each.

    `chest`: HU in LPS axes, cropped to the lungs; `region`: bool, the mediastinal region on its grid.
    """
    found = []
    thickness = max(chest.spacing_mm)
    if thickness > _THICK_SLICE_MM:
        found.append(f"Slices are {thickness:g} mm apart: nodes smaller than that may be missed.")
    noise = noise_hu(chest.array, region)
    if noise is not None and noise > _NOISE_HU:
        found.append(f"Very noisy (about {noise:.0f} HU), as of a sharp kernel: nodes may be missed.")
    blood = blood_hu(chest, region)
    if lungs_found and blood is not None and blood < CONTRAST_HU:
        found.append(f"No contrast medium seen (blood at about {blood:.0f} HU): nodes look much like vessels.")
    return tuple(found)


def noise_hu(chest_hu: np.ndarray, region: np.ndarray) -> float | None:
    """Noise of soft tissue in the region, in HU: the deviation of differences between neighbours, over sqrt(2).

    The deviation is 1.4826 times the median difference along a row, so that edges do not count. Noise that is smooth
    over several pixels counts less. None where there is too little soft tissue. `chest_hu` and `region` (bool) are
    [Z, Y, X] in LPS axes.
    """
    box = bounding_box(region[::2])
    hu = chest_hu[::2][box].astype(np.float32)
    tissue = (hu > -20) & (hu < 250) & region[::2][box]
    pairs = tissue[:, :, 1:] & tissue[:, :, :-1]
    if np.count_nonzero(pairs) < 500:
        return None
    differences = (hu[:, :, 1:] - hu[:, :, :-1])[pairs]
    return float(1.4826 * np.median(np.abs(differences)) / np.sqrt(2))


def blood_hu(chest: Volume, region: np.ndarray) -> float | None:
    """Typical HU of the heart and the great vessels: the median of soft tissue deep in the mediastinum.

    `chest`: HU in LPS axes; `region`: bool on its grid. Only the front two thirds of the region count, which leaves out
    the spine. Of these, voxels well inside soft tissue count, on a grid of about 2 mm. None where they are too few.
    """
    step = tuple(slice(None, None, max(1, round(2.0 / s))) for s in chest.spacing_mm)
    hu, region = chest.array[step], region[step]
    rows = np.flatnonzero(region.any(axis=(0, 2)))
    if rows.size == 0:
        return None
    region = region.copy()
    region[:, rows[0] + 2 * rows.size // 3 :] = False
    smooth = ndimage.uniform_filter(np.clip(hu, -200, 600).astype(np.float32), (1, 5, 5))
    deep = ndimage.binary_erosion(smooth > 0, np.ones((1, 3, 3)), iterations=2) & region
    return float(np.median(smooth[deep])) if np.count_nonzero(deep) >= 500 else None
