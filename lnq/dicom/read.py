"""Choose the CT series of a DICOM folder and read it. Headers by pydicom, pixels by SimpleITK's GDCM."""

from __future__ import annotations

import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom

from lnq.dicom.structure import pixel_bytes
from lnq.errors import Damaged, ImageError
from lnq.image.headers.layout import printable
from lnq.image.itk import name_problem
from lnq.image.plausible import MOST_HU
from lnq.image.volume import Volume

_SCALE = ("RescaleSlope", "RescaleIntercept")
_TAGS = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    *_SCALE,
)
_GAP_TOLERANCE = 0.1  # slice gaps may differ by this part of their median: scanners round positions
_TILT_DEGREES = 0.1  # between the stack's direction and the slices' normal: 0.5 mm over a chest
_ANGLE_TOLERANCE = 1e-3  # of direction cosines between slices
_MOST_PIXELS = 2**24  # of a compressed slice, whose file's length tells nothing


@dataclass(frozen=True)
class Slice:
    """Where one CT slice lies: position and direction cosines in patient coordinates (L, P, S), in mm."""

    path: Path
    position: np.ndarray  # [3], centre of the first voxel
    row: np.ndarray  # [3], unit, along which the column index grows
    column: np.ndarray  # [3], unit, along which the row index grows
    pixel_mm: tuple[float, float]  # between rows, between columns
    size: tuple[int, int]  # rows, columns
    bits: int  # of a pixel

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row, self.column)


def is_dicom_file(path: Path) -> bool:
    """Whether a file carries DICOM's preamble."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def is_dicom_folder(path: Path) -> bool:
    """Whether a folder holds a DICOM file itself (not in a folder below it)."""
    return path.is_dir() and any(is_dicom_file(file) for file in _files(path))


def read_dicom_series(folder: Path) -> Volume:
    """HU of the folder's CT series, slices sorted along their normal, with the geometry of the headers.

    Of several CT series the one with most slices is taken, scout views left out. Raises ImageError where
    there is no CT, or one whose slices differ in size or direction, are missing, doubled, unevenly spaced or
    tilted, or whose files are damaged.
    """
    folder = Path(folder)
    try:
        return _read_slices(_ct_series(folder))[0]
    except ImageError as error:
        raise ImageError(f"{folder.name} cannot be used: {error}") from None


def read_dicom_files(files: Sequence[Path], name: str) -> tuple[Volume, list[Path]]:
    """HU of the CT series that `files` are the slices of, wherever they lie; `name` stands for it in errors.

    The second result is the file of each slice, in the volume's order. Raises ImageError as `read_dicom_series` does.
    """
    try:
        return _read_slices([(file, read_header(file, _TAGS)) for file in files])
    except ImageError as error:
        raise ImageError(f"{name} cannot be used: {error}") from None


def read_header(path: Path, tags: Sequence[str]) -> pydicom.Dataset:
    """These tags of a DICOM file. Raises ImageError where it is damaged or none."""
    try:
        return parse_header(path, tags)
    except Exception:
        raise ImageError(f"its file {path.name} is damaged") from None


def parse_header(source: Path | BinaryIO, tags: Sequence[str]) -> pydicom.Dataset:
    """These tags of a DICOM file or stream, decoded. What pydicom raises of a damaged one is of many kinds."""
    if isinstance(source, Path):
        with _Bounded(source) as file:
            return parse_header(file, tags)
    header = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=list(tags))
    for tag in tags:
        header.get(tag)  # values are decoded when they are asked for
    return header


class _Bounded(io.BufferedReader):
    """A file that makes no room for more bytes than it has, whatever length a damaged header claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def is_whole(header: pydicom.Dataset) -> bool:
    """Whether a header was not cut off: it tells what object of which series this is and, of a CT, its size."""
    told = all(header.get(tag) for tag in ("SOPInstanceUID", "SeriesInstanceUID", "Modality"))
    return told and (header.Modality != "CT" or bool(header.get("Rows")))


def is_ct_slice(header: pydicom.Dataset) -> bool:
    """Whether a header (with Modality and ImageType) is that of a CT image, and no scout view."""
    return header.get("Modality") == "CT" and "LOCALIZER" not in str(header.get("ImageType", "")).upper()


def count_of(header: pydicom.Dataset, tag: str) -> int:
    """What a tag counts, 1 where it is missing or no number."""
    try:
        return int(header.get(tag) or 1)
    except (TypeError, ValueError):
        return 1


def _read_slices(files: list[tuple[Path, pydicom.Dataset]]) -> tuple[Volume, list[Path]]:
    slices = _sorted_slices(files)
    paths = [s.path for s in slices]
    affine = _affine(slices)
    return Volume(_read_pixels(slices), affine), paths


def _files(folder: Path) -> Iterable[Path]:
    return (p for p in sorted(folder.iterdir()) if p.is_file() and p.name.upper() != "DICOMDIR")


def _ct_series(folder: Path) -> list[tuple[Path, pydicom.Dataset]]:
    """Files and headers of the largest CT series that is no scout view."""
    modalities: Counter[str] = Counter()
    series: dict[str, list[tuple[Path, pydicom.Dataset]]] = defaultdict(list)
    for path in _files(folder):
        if not is_dicom_file(path):
            continue
        header = read_header(path, _TAGS)
        if not is_whole(header):
            raise ImageError(f"its file {path.name} is damaged")
        modalities[printable(str(header.Modality), 20)] += 1
        if is_ct_slice(header):
            series[str(header.get("SeriesInstanceUID", ""))].append((path, header))
    if series:
        return max(series.values(), key=len)
    if modalities.get("CT"):
        raise ImageError("its only CT images are scout views")
    if not modalities:
        raise ImageError("it holds no DICOM file")
    raise ImageError(f"it holds {' and '.join(sorted(modalities))} images, no CT")


def _sorted_slices(files: list[tuple[Path, pydicom.Dataset]]) -> list[Slice]:
    slices = [_slice(path, header) for path, header in files]
    if len({s.size for s in slices}) > 1 or len({s.pixel_mm for s in slices}) > 1:
        raise ImageError("its series mixes slices of different size or pixel spacing")
    first = slices[0]
    for other in slices:
        if np.abs([other.row - first.row, other.column - first.column]).max() > _ANGLE_TOLERANCE:
            raise ImageError("its series mixes slices of different orientation")
    return sorted(slices, key=lambda s: float(s.position @ first.normal))


def _slice(path: Path, header: pydicom.Dataset) -> Slice:
    if count_of(header, "NumberOfFrames") > 1:
        raise ImageError("it is an enhanced (multi-frame) CT, convert it to one file per slice")
    if count_of(header, "SamplesPerPixel") != 1:
        raise ImageError("it holds colour images, not CT slices in HU")
    try:
        position = np.array(header.ImagePositionPatient, dtype=np.float64).reshape(3)
        cosines = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        pixel_mm = (float(header.PixelSpacing[0]), float(header.PixelSpacing[1]))
        size, bits = (int(header.Rows), int(header.Columns)), int(header.BitsAllocated)
        scale = [float(value) for value in map(header.get, _SCALE) if value is not None]  # GDCM takes 1 or 0 for NaN
        if not (np.isfinite([*position, *pixel_mm, *scale]).all() and min(pixel_mm) > 0 and min(size) > 0):
            raise ValueError
    except (AttributeError, TypeError, ValueError, IndexError, OverflowError):
        raise ImageError(f"its slice {path.name} has no usable position, orientation, spacing, size or scale") from None
    if not np.abs(cosines @ cosines.T - np.eye(2)).max() < _ANGLE_TOLERANCE:
        raise ImageError(f"the orientation of its slice {path.name} is no rotation")
    row = cosines[0] / np.linalg.norm(cosines[0])
    column = cosines[1] - row * (row @ cosines[1])  # headers round the cosines: make them exactly orthogonal
    return Slice(path, position, row, column / np.linalg.norm(column), pixel_mm, size, bits)


def _affine(slices: list[Slice]) -> np.ndarray:
    """Index (z, y, x, 1) -> patient (L, P, S, 1) in mm, from the first and last slice's position."""
    if len(slices) < 2:
        raise ImageError("it is a single slice, a CT volume is needed")
    first = slices[0]
    positions = np.array([s.position for s in slices])
    gaps = np.diff(positions @ first.normal)
    usual = float(np.percentile(gaps, 50, method="lower"))
    if gaps.min() < 0.01:
        raise ImageError("it has two slices at the same position")
    if gaps.max() > (1 + 5 * _GAP_TOLERANCE) * usual:
        raise ImageError(f"slices are missing, the gaps are {usual:.2f} and {gaps.max():.2f} mm")
    if np.abs(gaps - usual).max() > _GAP_TOLERANCE * usual:
        raise ImageError(f"its slices are unevenly spaced, {gaps.min():.2f} to {gaps.max():.2f} mm apart")
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    cosine = float(step @ first.normal) / float(np.linalg.norm(step))
    if cosine < np.cos(np.radians(_TILT_DEGREES)):
        tilt = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        raise ImageError(f"it was taken with a gantry tilt of {tilt:.1f} degrees")
    affine = np.eye(4)
    affine[:3, 0] = first.normal * float(step @ first.normal)
    affine[:3, 1] = first.column * first.pixel_mm[0]
    affine[:3, 2] = first.row * first.pixel_mm[1]
    affine[:3, 3] = first.position
    return affine


def _read_pixels(slices: list[Slice]) -> np.ndarray:
    """[Z, Y, X] int16 HU (rescale slope and intercept applied), clamped to what int16 holds."""
    import SimpleITK as sitk

    for s in slices:
        _check_pixels(s)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(s.path) for s in slices])
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        raise ImageError("the pixels of its slices cannot be read, files may be damaged") from None
    if array.shape != (len(slices), *slices[0].size):
        raise ImageError("its slices are of another size than their headers say")
    low, high = float(array.min()), float(array.max())
    if not -MOST_HU <= low <= high <= MOST_HU:
        raise ImageError(f"its values are not HU, they go from {low:.3g} to {high:.3g}")
    return np.clip(np.rint(array), -32768, 32767).astype(np.int16)


def _check_pixels(s: Slice) -> None:
    """Raise ImageError unless a slice's file is whole and holds as many pixels as its header claims."""
    problem = name_problem(s.path)
    if problem:
        raise ImageError("{problem}", problem=problem)
    try:
        found = pixel_bytes(s.path)
    except Damaged as damage:
        raise ImageError(f"its file {s.path.name} cannot be read, {damage}") from None
    pixels = math.prod(s.size)
    claimed = -(-pixels * s.bits // 8)
    if pixels > _MOST_PIXELS or found not in (None, claimed, claimed + claimed % 2):
        raise ImageError(f"its file {s.path.name} does not hold the {s.size[0]} x {s.size[1]} pixels that it claims")
