"""Training cases from DICOM: CT series matched with the DICOM SEG objects that refer to them.

The Cancer Imaging Archive distributes the challenge's data in this form (collection Mediastinal-Lymph-Node-SEG). The
headers alone tell which files belong together; folders and file names do not matter.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from rich.console import Console
from rich.progress import track

from lnq.dicom.header import is_ct_slice, is_dicom_file, read_header
from lnq.errors import ImageError
from lnq.image.volume import Volume
from training.data.sources.raw_case import Annotation, RawCase

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

_TAGS = (
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "ReferencedSeriesSequence",
)
_READERS = 8  # threads that read headers: network disks answer slowly
_GRID_TOLERANCE = 0.1  # voxels that a frame may lie off the CT's grid: headers round positions
_VALIDATION_SHARE = 1 / 6  # of the fully annotated patients, as in the challenge: 20 of 120


@dataclass(frozen=True)
class DicomIndex:
    """DICOM files below a folder, sorted by their headers."""

    slices: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))  # by the CT's SeriesInstanceUID
    segmentations: list[tuple[Path, pydicom.Dataset]] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)


def find_dicom_cases(folder: Path, annotation: Annotation, console: Console) -> list[RawCase]:
    """Find one case per DICOM SEG object below `folder`, named after its patient; empty where there is none.

    What is wrong with a case (no CT, no word on its annotation) becomes its `problem`. The fully annotated patients are
    held out for validation (a sixth) and test, as in the challenge. The headers do not tell the challenge's own split.
    """
    index = _read_index(folder, console)
    for path in index.damaged:
        console.print(f"{path} is damaged and left out")
    cases = [_case(path, header, index, annotation) for path, header in index.segmentations]
    series = Counter(case.uids["series_uid"] for case in cases if not case.problem)
    idle = len(index.slices.keys() - series.keys())
    if cases and idle:
        console.print(f"{idle} CT series have no DICOM SEG object and are left out")
    doubled = {uid for uid, count in series.items() if count > 1}
    for number, case in enumerate(cases):
        if not case.problem and case.uids["series_uid"] in doubled:
            cases[number] = dataclasses.replace(case, problem="several DICOM SEG objects mark its CT")
    return _split(_unique(cases))


def read_segmentation(path: Path, ct: Volume) -> Volume:
    """Read a DICOM SEG object as uint8 [Z, Y, X], 1 where any segment marks a voxel.

    The result lies on the CT's grid, or on the object's own grid where the two differ. Frames are placed by the
    geometry in their headers, so they may be some of the slices, in any order. FRACTIONAL segments count from one half.
    Raises ImageError where the file is damaged or marks voxels beyond the CT.
    """
    try:
        import highdicom  # only preparing needs it

        segmentation = highdicom.seg.segread(path)
        marked = _marked(segmentation)
        planes = [_plane(segmentation, number) for number in range(len(marked))]
    except Exception as error:  # highdicom and pydicom raise many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        sentence = "{subject} cannot be read as a DICOM SEG object: {reason}"
        raise ImageError(sentence, subject=path.name, reason=reason) from error
    on_ct = [np.linalg.inv(ct.affine)[:3] @ plane for plane in planes]
    if not all(_is_on_grid(frame, marked.shape[1:]) for frame in on_ct):
        return _own_grid(segmentation, path.name)
    label = np.zeros(ct.shape, np.uint8)
    for frame, pixels in zip(on_ct, marked, strict=True):
        rows, columns = np.nonzero(pixels)
        index = np.rint(frame).astype(int) @ np.stack([rows, columns, np.ones_like(rows)])
        if (index < 0).any() or (index >= np.array(ct.shape)[:, None]).any():
            sentence = "{subject} marks voxels beyond the CT: its slices are missing, or it is another's"
            raise ImageError(sentence, subject=path.name)
        label[tuple(index)] = 1
    return ct.with_array(label)


def _read_index(folder: Path, console: Console) -> DicomIndex:
    index = DicomIndex()
    files = _files_below(folder)
    with ThreadPoolExecutor(_READERS) as pool:
        headers = pool.map(_header, files)
        for path, header in track(zip(files, headers, strict=True), "Reading headers", len(files), console=console):
            if header is None:
                continue
            if "SeriesInstanceUID" not in header:
                index.damaged.append(path)
            elif header.get("Modality") == "SEG":
                index.segmentations.append((path, header))
            elif is_ct_slice(header):
                index.slices[str(header.SeriesInstanceUID)].append(path)
    return index


def _files_below(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden, in an order that does not depend on the disk."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent) / n for n in sorted(names) if not n.startswith(".") and n.upper() != "DICOMDIR"]
    return found


def _header(path: Path) -> pydicom.Dataset | None:
    """The header of a DICOM file: None for a file of another kind, without any tag for a damaged one."""
    if not is_dicom_file(path):
        return None
    try:
        return read_header(path, _TAGS)
    except ImageError:
        return pydicom.Dataset()


def _case(path: Path, header: pydicom.Dataset, index: DicomIndex, annotation: Annotation) -> RawCase:
    description = str(header.get("SeriesDescription", ""))
    referred = [str(item.get("SeriesInstanceUID", "")) for item in header.get("ReferencedSeriesSequence") or ()]
    found = sorted({uid for uid in referred if uid in index.slices})
    words = [word for word in ("partial", "full") if word in description.lower()]
    problem = ""
    if not found:
        problem = f"{path.name} refers to the CT series {', '.join(referred) or '(none)'}, which is not there"
    elif len(found) > 1:
        problem = f"{path.name} refers to {len(found)} CT series"
    elif annotation == "auto" and len(words) != 1:
        problem = f"its description {description!r} does not say whether it is partially or fully annotated"
    full = annotation == "full" or (annotation == "auto" and words == ["full"])
    uids = {
        "patient_id": str(header.get("PatientID", "")),
        "study_uid": str(header.get("StudyInstanceUID", "")),
        "series_uid": found[0] if found else "",
        "seg_series_uid": str(header.SeriesInstanceUID),
        "seg_instance_uid": str(header.get("SOPInstanceUID", "")),
        "seg_description": description,
    }
    patient = uids["patient_id"] or uids["study_uid"]
    slices = tuple(index.slices[found[0]]) if found else ()
    image = slices[0].parent if slices else path.parent
    name = re.sub(r"[^\w.-]", "_", patient).lstrip(".") or "unnamed"
    return RawCase(name, image, path, full, patient, "test" if full else "train", slices, uids, problem)


def _unique(cases: Sequence[RawCase]) -> list[RawCase]:
    """Give cases with the same name unique names: 8 hex digits, a hash of their SEG object's UID, are added."""
    count = Counter(case.name for case in cases)
    names = [f"{case.name}-{_digits(case.uids['seg_instance_uid'])[:8]}" for case in cases]
    return [
        dataclasses.replace(case, name=name) if count[case.name] > 1 else case
        for case, name in zip(cases, names, strict=True)
    ]


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _split(cases: Sequence[RawCase]) -> list[RawCase]:
    """Move a sixth of the test patients to validation, chosen by the hash of their names."""
    tested = sorted({case.patient for case in cases if case.split == "test"}, key=_digits)
    chosen = set(tested[: round(len(tested) * _VALIDATION_SHARE)])
    return [dataclasses.replace(c, split="validation") if c.patient in chosen else c for c in cases]


def _marked(segmentation: Segmentation) -> np.ndarray:
    """Bool [frames, rows, columns]: the pixels that belong to a segment."""
    stored = segmentation.get_stored_frames()
    if segmentation.SegmentationType == "FRACTIONAL":
        return np.asarray(stored >= segmentation.MaximumFractionalValue / 2)
    return np.asarray(stored > 0)


def _plane(segmentation: Segmentation, frame: int) -> np.ndarray:
    """Matrix [4, 3] from (row, column, 1) of a frame to the pixel's centre (L, P, S, 1) in mm."""
    position = np.array(_of_frame(segmentation, frame, "PlanePositionSequence").ImagePositionPatient, float)
    orientation = _of_frame(segmentation, frame, "PlaneOrientationSequence").ImageOrientationPatient
    along_row, along_column = np.array(orientation, float).reshape(2, 3)
    between_rows, between_columns = _of_frame(segmentation, frame, "PixelMeasuresSequence").PixelSpacing
    plane = np.zeros((4, 3))
    plane[:3] = np.stack([along_column * between_rows, along_row * between_columns, position], axis=1)
    plane[3, 2] = 1.0
    return plane


def _of_frame(segmentation: Segmentation, frame: int, name: str) -> Any:
    """The item `name` of a frame's functional groups, or of those that all frames share."""
    own = segmentation.PerFrameFunctionalGroupsSequence[frame]
    group = own if name in own else segmentation.SharedFunctionalGroupsSequence[0]
    return group[name][0]


def _is_on_grid(frame: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether every pixel's centre is a voxel's centre in the CT.

    `frame` is the matrix [3, 3] from (row, column, 1) to index (z, y, x) in the CT; `shape` is (rows, columns).
    """
    nearest = np.rint(frame)
    if not (np.abs(nearest[:, :2]).sum(axis=0) == 1).all():
        return False
    last_row, last_column = shape[0] - 1, shape[1] - 1
    corners = np.array([[0, 0, last_row, last_row], [0, last_column, 0, last_column], [1, 1, 1, 1]])
    return bool(np.abs((frame - nearest) @ corners).max() <= _GRID_TOLERANCE)


def _own_grid(segmentation: Segmentation, name: str) -> Volume:
    """The marked voxels on the grid that the SEG object's own frames form. Raises ImageError where they form none."""
    measures = _of_frame(segmentation, 0, "PixelMeasuresSequence")
    if not measures.get("SpacingBetweenSlices"):
        sentence = "{subject} is not on its CT's grid and does not say how far apart its own slices are"
        raise ImageError(sentence, subject=name)
    try:
        volume = segmentation.get_volume(rescale_fractional=True)  # [slices, rows, columns, segments]
    except (RuntimeError, ValueError) as error:
        sentence = "{subject} is not on its CT's grid, and its frames form no volume: {reason}"
        raise ImageError(sentence, subject=name, reason=str(error)) from error
    return Volume(np.asarray((volume.array >= 0.5).any(axis=3), np.uint8), volume.affine)
