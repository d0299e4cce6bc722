"""One of the CTs that are compared: its nodes, as a result of `lnq batch` holds them, and the CT that they lie in."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lnq.archive.case import Case, content_sha256
from lnq.archive.discovery import ToSegment, discover
from lnq.archive.open import OpenedCase
from lnq.batch.record import read_record
from lnq.dicom.choice import ONE_PER_STUDY, Choice
from lnq.dicom.header import SliceFile
from lnq.errors import ImageError, StartError, Words
from lnq.files import file_sha256
from lnq.followup.read_objects import labels_on_slices
from lnq.followup.register import Chest, chest_of
from lnq.image import components
from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from lnq.results.case_record import SEGMENTS, CaseRecord, Findings
from lnq.results.node_table import NodeRow, read_case_table

_ROUNDING_MM = 0.2  # between a centre in the table, rounded to 0.1 mm, and that of its voxels
_OF_VOLUME = 0.05  # between a node in the table and on slices that lean or lie unevenly
_DATED = ("Study", "Acquisition", "Series")  # others tell when a copy was made
_PATIENT = ("PatientID", "PatientBirthDate", "PatientSex")


@dataclass(frozen=True, eq=False)
class TimePoint:
    """A segmented CT. CT and labels lie on the slices of a DICOM series, else as the file holds them."""

    folder: Path  # of its result
    record: CaseRecord
    rows: tuple[NodeRow, ...]
    name: str  # that of the CT's file or folder
    opened: OpenedCase
    labels: Volume  # integers: each node's number in its voxels

    @property
    def findings(self) -> Findings:
        assert self.record.findings is not None  # of a case that is done
        return self.record.findings

    @property
    def slices(self) -> tuple[SliceFile, ...]:
        """Those of a DICOM series, in the order of the labels' first axis; none of an image file."""
        return self.opened.slices

    @cached_property
    def ct(self) -> Volume:
        """HU on the labels' grid."""
        return self.opened.volume if self.opened.stack is None else self.opened.stack.on_slices(self.opened.volume)

    @cached_property
    def chest(self) -> Chest:
        """What the two CTs are aligned by. Raises ImageError where there are no lungs."""
        return chest_of(self.opened.volume, self.record.case)

    @property
    def date(self) -> str | None:
        """The day of the study, YYYY-MM-DD; None of an image file, or where no header tells it."""
        for name in _DATED if self.slices else ():
            date = str(self.slices[0].header.get(f"{name}Date") or "")
            if re.fullmatch(r"\d{8}", date):
                return f"{date[:4]}-{date[4:6]}-{date[6:]}"
        return None

    @property
    def title(self) -> str:
        """What people call it: its day, else its name."""
        return self.date or self.name


def read_time_point(folder: Path) -> TimePoint:
    """Read a case's folder that `lnq batch` wrote, and its CT where that was then.

    Raises ImageError, one sentence, where one of them is not as it was, and OSError where one cannot be read.
    """
    record, rows = read_record(folder.parent, folder.name), read_case_table(folder)
    if record is None or record.findings is None or record.mask is None or rows is None:
        raise ImageError("{subject} is damaged, or of another version of lnq: segment it again", subject=folder.name)
    case = _case_of(record)
    if content_sha256(case) != record.findings.input_sha256:
        raise ImageError(
            "The CT of {subject} has changed since it was segmented: segment it again", subject=record.case
        )
    with tempfile.TemporaryDirectory(prefix="lnq-") as scratch:
        opened = case.open(Path(scratch))
    return TimePoint(folder, record, tuple(rows), case.plain_name, opened, _labels(folder, record, rows, opened))


def _case_of(record: CaseRecord) -> Case:
    if record.input is None:
        sentence = "{subject} was segmented with --case-names hash, so it does not tell where its CT is: give the CT"
        raise ImageError(sentence, subject=record.case)
    choice = Choice(frozenset({record.series_uid})) if record.series_uid else ONE_PER_STUDY
    try:
        found = [one.case for one in discover([Path(record.input)], choice) if isinstance(one, ToSegment)]
    except StartError:
        found = []
    for case in found:
        if case.identity == record.id:
            return case
    raise ImageError("The CT of {subject} is no longer at {place}", subject=record.case, place=Path(record.input))


def _labels(folder: Path, record: CaseRecord, rows: list[NodeRow], opened: OpenedCase) -> Volume:
    """Each node's number, on the slices of a DICOM series or the image's grid."""
    mask = folder / Path(record.mask or "").name
    assert record.findings is not None  # read_time_point has looked
    if not mask.is_file() or file_sha256(mask) != record.findings.mask_sha256:
        sentence = "The mask of {subject} is not the one that lnq wrote, so its table does not tell of it"
        raise ImageError(sentence, subject=record.case)
    seg = mask if record.findings.options.format == "dicom-seg" else folder / SEGMENTS
    if mask.suffix == ".dcm":
        if not seg.is_file() or opened.stack is None:
            sentence = "The nodes of {subject} are in an RTSTRUCT alone: segment it with {options} as well"
            raise ImageError(sentence, subject=record.case, options=Words("--sr"))
        grid = opened.stack.on_slices(opened.volume)
        labels = grid.with_array(labels_on_slices(seg, opened.slices))
    else:
        volume = read_volume(mask)
        if volume.shape != opened.volume.shape:
            raise ImageError("The mask of {subject} does not fit its CT", subject=record.case)
        numbered = opened.volume.with_array(_numbered(volume, rows))
        labels = numbered if opened.stack is None else opened.stack.on_slices(numbered)
    if not _fits(labels, rows):
        raise ImageError("The mask of {subject} does not fit its table: segment it again", subject=record.case)
    return labels


def _fits(labels: Volume, rows: list[NodeRow]) -> bool:
    """Whether labels hold the table's nodes, each with its volume."""
    voxels = np.bincount(labels.array[labels.array > 0], minlength=len(rows) + 1)
    volumes = {row.number: row.volume_mm3 for row in rows}
    return set(np.flatnonzero(voxels).tolist()) == set(volumes) and all(
        abs(voxels[number] * labels.voxel_volume_mm3 - mm3) <= _OF_VOLUME * mm3 + 0.1 for number, mm3 in volumes.items()
    )


def _numbered(mask: Volume, rows: list[NodeRow]) -> np.ndarray:
    """Each node's number, int16, in the voxels of the component whose centre the table gives; 0 in any other."""
    index = np.argwhere(mask.array > 0)
    if not len(index):
        return np.zeros(mask.shape, np.int16)
    own, count = components.components(mask.array > 0)
    sums = [np.bincount(own, weights=index[:, axis], minlength=count + 1)[1:] for axis in range(3)]
    voxels = np.bincount(own, minlength=count + 1)[1:]
    centres = np.stack(sums, axis=1) / voxels[:, None] @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    numbers = np.zeros(count + 1, np.int16)
    for row in rows:
        off_mm = np.abs(centres - (row.l_mm, row.p_mm, row.s_mm)).max(axis=1)
        if off_mm.min() <= _ROUNDING_MM:
            numbers[int(off_mm.argmin()) + 1] = row.number
    numbered = np.zeros(mask.shape, np.int16)
    numbered[tuple(index.T)] = numbers[own]
    return numbered


def check_pair(earlier: TimePoint, later: TimePoint, any_patient: bool) -> None:
    """Raise StartError where the two cannot be an earlier and a later CT of one patient."""
    if earlier.findings.input_sha256 == later.findings.input_sha256:
        raise StartError("EARLIER and LATER are the same CT")
    if earlier.date and later.date and earlier.date > later.date:
        raise StartError(f"EARLIER is of {earlier.date} and LATER of {later.date}: give them in the order of time")
    if any_patient or not (earlier.slices and later.slices):
        return
    for tag in _PATIENT:
        values = [str(one.slices[0].header.get(tag) or "").strip() for one in (earlier, later)]
        if all(values) and values[0] != values[1]:
            raise StartError(
                f"EARLIER and LATER are of two patients: their {tag} differs (--any-patient compares them nevertheless)"
            )
