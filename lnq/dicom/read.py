"""Read a CT series into an upright volume: headers by pydicom, compressed pixels by SimpleITK's GDCM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.dicom.choice import AXIAL_COSINE, rank, unsuitable
from lnq.dicom.frames import frames_of
from lnq.dicom.header import SCALE, SliceFile, count_of, is_ct_slice, is_dicom_file, is_whole
from lnq.dicom.pixels import read_hu
from lnq.dicom.series import Gatherer, Series
from lnq.dicom.stack import SAME_PLACE_MM, Slice, Stack, arrange
from lnq.dicom.stacks import LEAST_SLICES
from lnq.errors import ImageError
from lnq.image.headers.layout import printable
from lnq.image.itk import name_problem
from lnq.image.volume import Volume

_ANGLE_TOLERANCE = 1e-3  # largest difference of direction cosines
_SPACING_TOLERANCE = 1e-3  # largest relative difference of pixel spacings: headers round them


@dataclass(frozen=True, eq=False)
class CtSeries:
    """A CT series that was read."""

    volume: Volume  # int16 HU, on an upright grid
    stack: Stack  # the slices that it was read from


def is_dicom_folder(path: Path) -> bool:
    """Whether a folder holds a DICOM file directly, not in a folder below it."""
    return path.is_dir() and any(is_dicom_file(file) for file in _files(path))


def read_dicom_series(folder: Path) -> CtSeries:
    """Read the folder's CT series, with the geometry of the headers.

    The rules of `lnq.dicom.choice` choose among several CT series. Raises ImageError where there is no CT, where its
    slices differ in size or direction, are missing or unevenly spaced, or where files are damaged.
    """
    folder = Path(folder)
    try:
        return _read(_ct_series(folder))
    except ImageError as error:
        raise ImageError("{subject} cannot be used: {reason}", subject=folder.name, reason=error) from None


def read_dicom_files(files: Sequence[Path], name: str) -> CtSeries:
    """Like `read_dicom_series`, from the files of a CT series, in any folders. Errors call the series `name`."""
    try:
        return _read([SliceFile.read(file) for file in files])
    except ImageError as error:
        raise ImageError("{subject} cannot be used: {reason}", subject=name, reason=error) from None


def _read(files: Sequence[SliceFile]) -> CtSeries:
    slices = _sorted_slices([slice_file for file in files for slice_file in frames_of(file)])
    for path in dict.fromkeys(s.file.path for s in slices):
        problem = name_problem(path)
        if problem:
            raise ImageError("{problem}", problem=problem)
    slices, hu, warnings = _without_copies(slices, read_hu([s.file for s in slices]))
    stack = arrange(slices)
    return CtSeries(Volume(stack.upright(hu), stack.affine, (*warnings, *stack.warnings)), stack)


def _without_copies(slices: list[Slice], hu: np.ndarray) -> tuple[list[Slice], np.ndarray, list[str]]:
    """Leave out slices that were stored twice. Raises ImageError where two at one position are not the same."""
    heights = np.array([s.position @ slices[0].normal for s in slices])
    again = np.flatnonzero(np.diff(heights) < SAME_PLACE_MM) + 1
    if not again.size:
        return slices, hu, []
    if any((hu[i] != hu[i - 1]).any() for i in again):
        raise ImageError("it has two slices at the same position")
    kept = np.setdiff1d(np.arange(len(slices)), again)
    many = "1 slice is" if again.size == 1 else f"{again.size} slices are"
    return [slices[i] for i in kept], hu[kept], [f"{many} stored twice: each was read once."]


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
    found = gatherer.all()
    chosen = _chosen(found)
    for other in found:
        if other is not chosen and other.uid == chosen.uid and other.kind == "ct" and _is_odd(other):
            raise ImageError("its series mixes slices of different size, orientation or pixel spacing")
    return [files[place] for place in chosen.places]


def _is_odd(series: Series) -> bool:
    """Whether these are a few axial slices, which no other rule leaves out."""
    normal = series.normal()
    return len(series.places) < LEAST_SLICES and normal is not None and abs(normal[2]) >= AXIAL_COSINE


def _chosen(found: Sequence[Series]) -> Series:
    """The CT series to read from a folder. Where the rules accept none, all but scout views are candidates.

    Raises ImageError where there is no candidate.
    """
    usable = [series for series in found if is_ct_slice(series.header)]
    suitable = [series for series in usable if unsuitable(series) is None]
    if usable:
        return rank(suitable or usable)[0]
    modalities = Counter(printable(series.text("Modality"), 20) for series in found)
    if modalities.get("CT"):
        raise ImageError("its only CT images are scout views")
    if not modalities:
        raise ImageError("it holds no DICOM file")
    raise ImageError("it holds {modality} images, not a CT", modality=" and ".join(sorted(modalities)))


def _sorted_slices(files: Sequence[SliceFile]) -> list[Slice]:
    slices = [_slice(file) for file in files]
    first = slices[0]
    pixels_mm = np.array([s.pixel_mm for s in slices])
    if len({s.size for s in slices}) > 1 or (np.ptp(pixels_mm, axis=0) > _SPACING_TOLERANCE * pixels_mm[0]).any():
        raise ImageError("its series mixes slices of different size or pixel spacing")
    for other in slices:
        if np.abs([other.row - first.row, other.column - first.column]).max() > _ANGLE_TOLERANCE:
            raise ImageError("its series mixes slices of different orientation")
    return sorted(slices, key=lambda s: (float(s.position @ first.normal), s.file.frame, str(s.file.path)))


def _slice(file: SliceFile) -> Slice:
    header, name = file.header, file.path.name
    if count_of(header, "SamplesPerPixel") != 1:
        raise ImageError("it holds colour images, not CT slices in HU")
    try:
        position = np.array(header.ImagePositionPatient, dtype=np.float64).reshape(3)
        cosines = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        pixel_mm = (float(header.PixelSpacing[0]), float(header.PixelSpacing[1]))
        size = (int(header.Rows), int(header.Columns))
        scale = [float(value) for value in map(header.get, SCALE) if value is not None]
        if not (np.isfinite([*position, *pixel_mm, *scale]).all() and min(pixel_mm) > 0 and min(size) > 0):
            raise ValueError
    except (AttributeError, TypeError, ValueError, IndexError, OverflowError):
        sentence = "its slice {file} has no usable position, orientation, spacing, size or scale"
        raise ImageError(sentence, file=name) from None
    if not np.abs(cosines @ cosines.T - np.eye(2)).max() < _ANGLE_TOLERANCE:
        raise ImageError("the orientation of its slice {file} is not a rotation", file=name)
    row = cosines[0] / np.linalg.norm(cosines[0])
    column = cosines[1] - row * (row @ cosines[1])  # headers round the cosines: make them exactly orthogonal
    return Slice(file, position, row, column / np.linalg.norm(column), pixel_mm, size)
