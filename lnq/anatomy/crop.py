"""Find the lungs in a CT from the image alone, and between them the mediastinum (METHOD sections 2 and 7).

The search runs on a copy of about 4 mm, in LPS axes. Air counts as lung where it lies within the body, is at least
24 mm wide and, on average, denser than free air. This leaves out the trachea, bowel gas and the air around the patient.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from lnq.anatomy.region import region_between
from lnq.image.resample import resample_image, resample_label_to
from lnq.image.volume import Box, Volume, bounding_box
from lnq.inference.spec import CropSpec

PADDING_HU = -1024  # lower values are filler outside the scanner's field of view
_COARSE_MM = 4.0  # spacing of the copy
_AIR_HU = -400.0  # midway between lung, -600 HU and lower, and soft tissue
_GAS_HU = -955.0  # free air has -1000 HU; lung with the worst emphysema has about -930 HU on average
_CORE_MM = 12.0  # half-width of a lung's core, larger than the trachea's
_CORE_MM3 = 7.5e3  # volume of the smallest core; the piece of lung around it has about 30 ml
_INSIDE = 0.15  # least enclosed fraction of a lung; low because a small field of view cuts the chest wall off
_LUNG_RATIO = 0.1  # least volume of the second lung, as a fraction of the first's
_APART_MM = 50.0  # between the centres of two lungs, from left to right
_ONE_LUNG_REACH_MM = 100.0  # how far to search beyond a single lung, across the mediastinum
_CUT_MM2 = 500.0  # a lung counts as cut where its area on the image's border is larger


@dataclass(frozen=True, eq=False)
class Crop:
    """The part of an LPS volume that is searched."""

    box: Box
    region: np.ndarray  # bool [Z, Y, X] on the box's grid: where nodes may be reported
    lungs_found: int  # 0, 1 or 2
    full_shape: tuple[int, int, int]
    warnings: tuple[str, ...] = field(default=())  # sentences for the user

    @property
    def region_box(self) -> Box:
        """The box around the region, in the whole LPS volume."""
        within = bounding_box(self.region)
        z, y, x = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(self.box, within, strict=True))
        return z, y, x

    def apply(self, volume: Volume) -> Volume:
        """The box's part of an LPS volume."""
        return volume.crop(self.box)

    def undo(self, array: np.ndarray, box: Box | None = None) -> np.ndarray:
        """An array on the box's grid, or on a `box` within it, pasted into the full LPS grid, 0 outside."""
        full = np.zeros(self.full_shape, array.dtype)
        full[self.box][box or ...] = array
        return full


def find_crop(volume_lps: Volume, spec: CropSpec) -> Crop:
    """Find the lungs' bounding box and the mediastinal region, both widened by the margins of `spec`.

    With one lung the box reaches across the mediastinum, and the region is the whole box. With no lung the box is that
    of the body, and the region is again the whole box.
    """
    warnings = []
    lowest = volume_lps.array.min()
    if lowest < PADDING_HU:
        warnings.append(f"Values down to {lowest:.0f} HU were taken for padding outside the field of view.")
    coarse = _coarse(volume_lps)
    filler = _filler(coarse.array)
    body = _body(coarse)
    lungs = _find_lungs(coarse, body, filler)
    found = len(lungs)
    if found == 0:
        warnings.append("No lungs were found: the whole body was searched, so the result is not to be trusted.")
        where = body if body.any() else np.ones(coarse.shape, bool)
    else:
        where = np.any(lungs, axis=0)
        warnings += _cut_warnings(where, filler, coarse)
        if found == 1:
            warnings.append(
                "Only one lung was found: the box around it was searched instead of the mediastinal region."
            )
            where = where | _across(where, body, coarse)
    box = _box(where, spec.margin_mm, coarse, volume_lps)
    region = np.ones([s.stop - s.start for s in box], bool)
    if found == 2:
        between = region_between(where, coarse.spacing_mm, spec.region_margin_mm)
        if between.any():
            region = resample_label_to(coarse.with_array(between), volume_lps.crop(box)).array.astype(bool)
        else:
            warnings.append("No mediastinum was found between the lungs: the box around them was searched.")
    return Crop(box, region, found, volume_lps.shape, tuple(warnings))


def _coarse(volume: Volume) -> Volume:
    z, y, x = (max(_COARSE_MM, s) for s in volume.spacing_mm)
    return resample_image(volume, (z, y, x), least=PADDING_HU)


def _filler(hu: np.ndarray) -> np.ndarray:
    """Voxels beyond the field of view: padding, and saturated air, that reaches the image's sides."""
    labels, _ = ndimage.label(hu < PADDING_HU + 1)
    return np.isin(labels, _side_labels(labels))


def _side_labels(labels: np.ndarray) -> np.ndarray:
    """Labels at the four sides of the axial slices, without the background."""
    sides = (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    found = np.unique(np.concatenate([s.ravel() for s in sides]))
    return found[found > 0]


def _body(coarse: Volume) -> np.ndarray:
    """The patient's tissue and bone: the largest piece after an opening that removes table and clothes."""
    tissue = coarse.array > -250
    labels, count = ndimage.label(ndimage.binary_opening(tissue, _ball(6.0, coarse.spacing_mm)))
    if count == 0:
        return np.zeros(coarse.shape, bool)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def _enclosed(body: np.ndarray) -> np.ndarray:
    """Voxels that have body on at least three of their four sides within the axial slice.

    A lung that the image's border cuts is enclosed. Air around the patient or in the table's foam is not.
    """
    sides = np.zeros(body.shape, np.uint8)
    for axis in (1, 2):
        sides += np.logical_or.accumulate(body, axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(body, axis), axis), axis)
    return sides >= 3


def _find_lungs(coarse: Volume, body: np.ndarray, filler: np.ndarray) -> list[np.ndarray]:
    """One mask per lung found: two, one or none."""
    spacing = coarse.spacing_mm
    air = (coarse.array < _AIR_HU) & ~filler
    depth = ndimage.distance_transform_edt(np.pad(air, 1, mode="edge"), spacing)[1:-1, 1:-1, 1:-1]
    cores = _lung_cores(depth, _enclosed(body), coarse)
    if not cores.any():
        return []
    left_right = _split(cores, depth, coarse)
    grown = [_near(core, spacing, _CORE_MM + max(spacing)) for core in left_right]
    return [g & air for g in grown]


def _lung_cores(depth: np.ndarray, enclosed: np.ndarray, coarse: Volume) -> np.ndarray:
    """Large pieces of air of lung density, within the body and at least 12 mm from any tissue."""
    labels, count = ndimage.label(depth > _CORE_MM)
    if count == 0:
        return np.zeros(depth.shape, bool)
    index = np.arange(1, count + 1)
    is_lung = ndimage.mean(coarse.array, labels, index) > _GAS_HU
    is_inside = ndimage.mean(enclosed, labels, index) > _INSIDE
    volume = np.bincount(labels.ravel(), minlength=count + 1)[1:] * coarse.voxel_volume_mm3
    return np.isin(labels, index[is_lung & is_inside & (volume > _CORE_MM3)])


def _split(cores: np.ndarray, depth: np.ndarray, coarse: Volume) -> list[np.ndarray]:
    """Cores of the left and the right lung, or of the only one.

    Two lungs that touch in front of the heart form one piece. Deeper and deeper cores are tried until two lie apart.
    """
    for deeper_mm in (0.0, 4.0, 8.0, 12.0, 16.0, 20.0):
        labels, count = ndimage.label(cores & (depth > _CORE_MM + deeper_mm))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        large = np.flatnonzero(sizes >= _LUNG_RATIO * max(sizes, default=1)) + 1
        centres = np.array(ndimage.center_of_mass(labels > 0, labels, large)).reshape(-1, 3)
        x = centres[:, 2] * coarse.spacing_mm[2]
        if len(large) >= 2 and np.ptp(x) > _APART_MM:
            middle = (x.max() + x.min()) / 2
            left = np.isin(labels, large[x > middle])
            right = np.isin(labels, large[x <= middle])
            return _assign(cores, left, right, coarse)
    return [cores]


def _assign(cores: np.ndarray, left: np.ndarray, right: np.ndarray, coarse: Volume) -> list[np.ndarray]:
    """Assign each core voxel to the nearer of two seeds. A side smaller than a tenth of the other is dropped."""
    box = bounding_box(cores | left | right)
    to_left, to_right = (ndimage.distance_transform_edt(~seed[box], coarse.spacing_mm) for seed in (left, right))
    sides = [np.zeros_like(cores), np.zeros_like(cores)]
    sides[0][box], sides[1][box] = cores[box] & (to_left < to_right), cores[box] & (to_left >= to_right)
    sizes = [np.count_nonzero(s) for s in sides]
    return [side for side, size in zip(sides, sizes, strict=True) if size >= _LUNG_RATIO * max(sizes)]


def _near(mask: np.ndarray, spacing_mm: tuple[float, float, float], reach_mm: float) -> np.ndarray:
    z, y, x = (int(reach_mm / s) + 1 for s in spacing_mm)
    box = bounding_box(mask, (z, y, x))
    near = np.zeros_like(mask)
    near[box] = ndimage.distance_transform_edt(~mask[box], spacing_mm) <= reach_mm
    return near


def _ball(radius_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    reach = [int(radius_mm / s) for s in spacing_mm]
    z, y, x = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    squared = (z * spacing_mm[0]) ** 2 + (y * spacing_mm[1]) ** 2 + (x * spacing_mm[2]) ** 2
    return squared <= radius_mm**2


def _across(lung: np.ndarray, body: np.ndarray, coarse: Volume) -> np.ndarray:
    """The part of the body beside a single lung, up to 100 mm towards the body's middle."""
    z, _, x = np.nonzero(lung)
    middle = np.nonzero(body[z.min() : z.max() + 1])[2].mean()
    reach = round(_ONE_LUNG_REACH_MM / coarse.spacing_mm[2])
    beside = np.zeros_like(lung)
    if x.mean() > middle:
        beside[z.min() : z.max() + 1, :, max(0, x.min() - reach) : x.max() + 1] = True
    else:
        beside[z.min() : z.max() + 1, :, x.min() : x.max() + 1 + reach] = True
    return beside & body & _rows_of(lung)


def _rows_of(mask: np.ndarray) -> np.ndarray:
    """The mask's extent from front to back, as a mask [1, Y, 1]."""
    rows = np.flatnonzero(mask.any(axis=(0, 2)))
    out = np.zeros((1, mask.shape[1], 1), bool)
    out[:, rows[0] : rows[-1] + 1] = True
    return out


def _box(where: np.ndarray, margin_mm: float, coarse: Volume, fine: Volume) -> tuple[slice, slice, slice]:
    """The bounding box of `where` on the fine grid, with a margin. Both grids start at the same outer corner."""
    box = []
    for axis in range(3):
        used = np.flatnonzero(where.any(axis=tuple(a for a in range(3) if a != axis)))
        low_mm = used[0] * coarse.spacing_mm[axis] - margin_mm
        high_mm = (used[-1] + 1) * coarse.spacing_mm[axis] + margin_mm
        start = max(0, int(low_mm / fine.spacing_mm[axis]))
        box.append(slice(start, min(fine.shape[axis], int(np.ceil(high_mm / fine.spacing_mm[axis])))))
    return box[0], box[1], box[2]


def _cut_warnings(lungs: np.ndarray, filler: np.ndarray, coarse: Volume) -> list[str]:
    z, y, x = coarse.spacing_mm
    faces = (lungs[:, 0], lungs[:, -1], lungs[:, :, 0], lungs[:, :, -1])
    at_side = sum(f.sum() * area for f, area in zip(faces, (z * x, z * x, z * y, z * y), strict=True))
    at_filler = (ndimage.binary_dilation(lungs, iterations=1) & filler).sum() * z * (x + y) / 2
    ends = [name for i, name in ((0, "bottom"), (-1, "top")) if lungs[i].sum() * y * x > _CUT_MM2]
    warnings = []
    if at_side + at_filler > _CUT_MM2:
        warnings.append("The field of view cuts the lungs at the side: nodes beyond it cannot be found.")
    if ends:
        where = " and the ".join(ends)
        warnings.append(f"The scan cuts the lungs at the {where}: nodes beyond cannot be found.")
    return warnings
