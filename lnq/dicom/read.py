"""Read a CT series: its headers by pydicom, its pixels by SimpleITK's GDCM."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.dicom.header import SCALE, SliceFile, count_of, is_ct_slice, is_dicom_file, is_whole
from lnq.dicom.series import Gatherer, Series, choose, unsuitable
from lnq.dicom.structure import pixel_bytes
from lnq.errors import Damaged, ImageError
from lnq.image.headers.layout import printable
from lnq.image.itk import name_problem
from lnq.image.plausible import MOST_HU
from lnq.image.volume import Volume

_GAP_TOLERANCE = 0.1  # slice gaps may differ by this fraction of their median, because scanners round positions
_TILT_DEGREES = 0.1  # largest angle between the stack's direction and the slices' normal: 0.5 mm over a chest
_ANGLE_TOLERANCE = 1e-3  # largest difference of direction cosines
_MOST_PIXELS = 2**24  # in a slice: the file's length does not limit those of a compressed one


@dataclass(frozen=True, eq=False)
class _Slice:
    """The geometry of one CT slice: position (mm) and direction cosines in patient coordinates (L, P, S)."""

    file: SliceFile
    position: np.ndarray  # [3], centre of the first voxel
    row: np.ndarray  # [3], unit vector along which the column index grows
    column: np.ndarray  # [3], unit vector along which the row index grows
    pixel_mm: tuple[float, float]  # distance between rows, between columns
    size: tuple[int, int]  # rows, columns
    bits: int  # allocated for each pixel

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row, self.column)


def is_dicom_folder(path: Path) -> bool:
    """Whether a folder holds a DICOM file directly, not in a folder below it."""
    return path.is_dir() and any(is_dicom_file(file) for file in _files(path))


def read_dicom_series(folder: Path) -> Volume:
    """Read the folder's CT series: int16 HU [Z, Y, X], with the geometry of the headers.

    The rules of `lnq.dicom.series` choose among several CT series. Raises ImageError where there is no CT, where its
    slices differ in size or direction, are missing, doubled, unevenly spaced or tilted, or where files are damaged.
    """
    folder = Path(folder)
    try:
        return _read(_ct_series(folder))[0]
    except ImageError as error:
        raise ImageError("{subject} cannot be used: {reason}", subject=folder.name, reason=error) from None


def read_dicom_files(files: Sequence[Path], name: str) -> tuple[Volume, list[SliceFile]]:
    """Like `read_dicom_series`, from the files of a CT series' slices, in any folders. Also returns the slices.

    The slices come in the volume's order. Errors call the series `name`.
    """
    try:
        return _read([SliceFile.read(file) for file in files])
    except ImageError as error:
        raise ImageError("{subject} cannot be used: {reason}", subject=name, reason=error) from None


def _read(files: Sequence[SliceFile]) -> tuple[Volume, list[SliceFile]]:
    slices = _sorted_slices(files)
    affine = _affine(slices)
    return Volume(_read_pixels(slices), affine), [one.file for one in slices]


def _files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if p.is_file() and p.name.upper() != "DICOMDIR"]


def _ct_series(folder: Path) -> list[SliceFile]:
    """The files of a folder's CT series."""
    files: dict[str, SliceFile] = {}
    gatherer = Gatherer()
    for path in filter(is_dicom_file, _files(folder)):
        file = files[str(path)] = SliceFile.read(path)
        if not is_whole(file.header):
            raise ImageError("its file {file} is damaged", file=path.name)
        gatherer.add(file.header, str(path), folder)
    return [files[place] for place in _chosen(gatherer.all()).places]


def _chosen(found: Sequence[Series]) -> Series:
    """The CT series to read from a folder. Where the rules accept none, all but scout views are candidates.

    Raises ImageError where there is no candidate.
    """
    usable = [series for series in found if is_ct_slice(series.header)]
    suitable = [series for series in usable if unsuitable(series) is None]
    if usable:
        return choose(suitable or usable)
    modalities = Counter(printable(series.text("Modality"), 20) for series in found)
    if modalities.get("CT"):
        raise ImageError("its only CT images are scout views")
    if not modalities:
        raise ImageError("it holds no DICOM file")
    raise ImageError("it holds {modality} images, not a CT", modality=" and ".join(sorted(modalities)))


def _sorted_slices(files: Sequence[SliceFile]) -> list[_Slice]:
    slices = [_slice(file) for file in files]
    if len({s.size for s in slices}) > 1 or len({s.pixel_mm for s in slices}) > 1:
        raise ImageError("its series mixes slices of different size or pixel spacing")
    first = slices[0]
    for other in slices:
        if np.abs([other.row - first.row, other.column - first.column]).max() > _ANGLE_TOLERANCE:
            raise ImageError("its series mixes slices of different orientation")
    return sorted(slices, key=lambda s: float(s.position @ first.normal))


def _slice(file: SliceFile) -> _Slice:
    header, name = file.header, file.path.name
    if count_of(header, "NumberOfFrames") > 1:
        raise ImageError("it is an enhanced (multi-frame) CT: convert it to one file per slice")
    if count_of(header, "SamplesPerPixel") != 1:
        raise ImageError("it holds colour images, not CT slices in HU")
    try:
        position = np.array(header.ImagePositionPatient, dtype=np.float64).reshape(3)
        cosines = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        pixel_mm = (float(header.PixelSpacing[0]), float(header.PixelSpacing[1]))
        size, bits = (int(header.Rows), int(header.Columns)), int(header.BitsAllocated)
        scale = [float(value) for value in map(header.get, SCALE) if value is not None]  # GDCM reads NaN as 1 or 0
        if not (np.isfinite([*position, *pixel_mm, *scale]).all() and min(pixel_mm) > 0 and min(size) > 0):
            raise ValueError
    except (AttributeError, TypeError, ValueError, IndexError, OverflowError):
        sentence = "its slice {file} has no usable position, orientation, spacing, size or scale"
        raise ImageError(sentence, file=name) from None
    if not np.abs(cosines @ cosines.T - np.eye(2)).max() < _ANGLE_TOLERANCE:
        raise ImageError("the orientation of its slice {file} is not a rotation", file=name)
    row = cosines[0] / np.linalg.norm(cosines[0])
    column = cosines[1] - row * (row @ cosines[1])  # headers round the cosines: make them exactly orthogonal
    return _Slice(file, position, row, column / np.linalg.norm(column), pixel_mm, size, bits)


def _affine(slices: list[_Slice]) -> np.ndarray:
    """Index (z, y, x, 1) -> patient (L, P, S, 1) in mm, from the first and last slice's position."""
    if len(slices) < 2:
        raise ImageError("it is a single slice: a CT volume is needed")
    first = slices[0]
    positions = np.array([s.position for s in slices])
    gaps = np.diff(positions @ first.normal)
    usual = float(np.percentile(gaps, 50, method="lower"))
    if gaps.min() < 0.01:
        raise ImageError("it has two slices at the same position")
    if gaps.max() > (1 + 5 * _GAP_TOLERANCE) * usual:
        raise ImageError(
            "slices are missing: the gaps are {usual:.2f} and {most:.2f} mm", usual=usual, most=float(gaps.max())
        )
    if np.abs(gaps - usual).max() > _GAP_TOLERANCE * usual:
        uneven = "its slices are unevenly spaced, {least:.2f} to {most:.2f} mm apart"
        raise ImageError(uneven, least=float(gaps.min()), most=float(gaps.max()))
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    cosine = float(step @ first.normal) / float(np.linalg.norm(step))
    if cosine < np.cos(np.radians(_TILT_DEGREES)):
        tilt = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        raise ImageError("it was taken with a gantry tilt of {tilt:.1f} degrees", tilt=tilt)
    affine = np.eye(4)
    affine[:3, 0] = first.normal * float(step @ first.normal)
    affine[:3, 1] = first.column * first.pixel_mm[0]
    affine[:3, 2] = first.row * first.pixel_mm[1]
    affine[:3, 3] = first.position
    return affine


def _read_pixels(slices: list[_Slice]) -> np.ndarray:
    """Read the pixels as int16 HU [Z, Y, X]: rescale slope and intercept applied, clamped to the range of int16."""
    import SimpleITK as sitk

    for s in slices:
        _check_pixels(s)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(s.file.path) for s in slices])
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        raise ImageError("the pixels of its slices cannot be read: files may be damaged") from None
    if array.shape != (len(slices), *slices[0].size):
        raise ImageError("its slices are of another size than their headers say")
    low, high = float(array.min()), float(array.max())
    if not -MOST_HU <= low <= high <= MOST_HU:
        raise ImageError("its values are not HU: they go from {low:.3g} to {high:.3g}", low=low, high=high)
    return np.clip(np.rint(array), -32768, 32767).astype(np.int16)


def _check_pixels(s: _Slice) -> None:
    """Raise ImageError unless a slice's file is complete and holds as many pixels as its header claims."""
    problem = name_problem(s.file.path)
    if problem:
        raise ImageError("{problem}", problem=problem)
    try:
        found = pixel_bytes(s.file.path)
    except Damaged as damage:
        raise ImageError("its file {file} cannot be read: {damage}", file=s.file.path.name, damage=damage) from None
    pixels = math.prod(s.size)
    claimed = -(-pixels * s.bits // 8)
    if pixels > _MOST_PIXELS or found not in (None, claimed, claimed + claimed % 2):
        claim = "its file {file} does not hold the {rows} x {columns} pixels that it claims"
        raise ImageError(claim, file=s.file.path.name, rows=s.size[0], columns=s.size[1])
