"""The parts of a CT series' headers that objects need to refer to it: identity, geometry, patient and study."""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import STR_VR, DSfloat

from lnq.dicom.header import DATED, IDENTITY, MORE_OF_STUDY, OF_RESULTS, PATIENT_AND_STUDY, SliceFile
from lnq.errors import ImageError, Words
from lnq.image.volume import Volume

_OF_FRAMES = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_CLASSES = (
    CTImageStorage,
    SecondaryCaptureImageStorage,
    *_OF_FRAMES,
)  # workstations store reformatted CTs as the second
_NO_DATE, _NO_TIME = "19000101", "000000"  # for a series without a date: its objects must have one
_TIME = re.compile(r"\d\d(\d\d(\d\d(\.\d{1,6})?)?)?")
_COPIED = (*PATIENT_AND_STUDY, *MORE_OF_STUDY)
_PLACE_TOLERANCE_MM = 1.0  # headers round positions and directions


@dataclass(frozen=True, eq=False)
class ReferencedSeries:
    """A CT series as other objects refer to it."""

    slices: tuple[pydicom.Dataset, ...]  # identity and geometry of each slice, without patient, in the labels' order
    frames: tuple[int | None, ...]  # number of each slice's frame in its object, from 1; None where it is the object
    study: pydicom.Dataset  # patient and study, as each object holds them
    date: str  # YYYYMMDD, as each object holds it
    time: str  # of this date, HHMMSS or a shorter or longer form that DICOM allows

    @property
    def objects(self) -> list[pydicom.Dataset]:
        """Identity of each object: of each slice, or of the multi-frame objects that hold them."""
        return list({header.SOPInstanceUID: header for header in self.slices}.values())

    def point_to(self, z: int, item: pydicom.Dataset) -> None:
        """Have the item of a sequence refer to slice `z`."""
        header, frame = self.slices[z], self.frames[z]
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        if frame is not None:
            item.ReferencedFrameNumber = frame


def refer_to(labels: Volume, slices: Sequence[SliceFile]) -> ReferencedSeries:
    """The series of a CT, from its slices in the order of the first axis of `labels`, [Z, Y, X] on the CT's own grid.

    A series without a frame of reference gets one that is derived from its UID. Without any date it gets 1900-01-01.
    Raises ValueError where the number of slices is not that of the labels. Raises ImageError for a slice that does not
    lie where the labels say, or that lacks what an object must name.
    """
    if labels.shape[0] != len(slices):
        raise ValueError(f"The labels have {labels.shape[0]} slices, the series has {len(slices)} files")
    try:
        headers = _slice_headers(labels, slices)
        frames = (
            one.frame + 1 if header.SOPClassUID in _OF_FRAMES else None
            for one, header in zip(slices, headers, strict=True)
        )
        return ReferencedSeries(tuple(headers), tuple(frames), *_study(slices[0]))
    except ImageError as error:
        sentence = "No DICOM object can refer to {folder}: {reason}"
        raise ImageError(sentence, folder=slices[0].path.parent.name, reason=error) from None


def hashed_uid(*words: str) -> str:
    """A UID that follows from these words alone: a name-based UUID (RFC 4122)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(10).join(words)).int}"


def _slice_headers(labels: Volume, slices: Sequence[SliceFile]) -> list[pydicom.Dataset]:
    with pydicom.config.disable_value_validation():
        headers = [_slice_header(one, labels.spacing_mm[0]) for one in slices]
    first = headers[0]
    for tag, what in (
        ("StudyInstanceUID", "studies"),
        ("SeriesInstanceUID", "series"),
        ("FrameOfReferenceUID", "frames of reference"),
    ):
        if len({str(header[tag].value) for header in headers}) > 1:
            raise ImageError("its slices are of different {what}", what=Words(what))
    rows, columns = labels.shape[1:]
    for one, header in zip(slices, headers, strict=True):
        if (header.Rows, header.Columns) != (rows, columns):
            raise ImageError(
                "its slice {file} has {own_rows} x {own_columns} pixels, its labels {rows} x {columns}",
                file=one.path.name,
                own_rows=header.Rows,
                own_columns=header.Columns,
                rows=rows,
                columns=columns,
            )
    _check_place(labels, slices, headers)
    for header in headers:
        header.ImageOrientationPatient = first.ImageOrientationPatient  # headers round the cosines of each slice
    return headers


def _slice_header(one: SliceFile, slice_mm: float) -> pydicom.Dataset:
    """Identity and geometry of a slice. Patient and study stay blank. Raises ImageError where something is missing."""
    read = _readable(one)
    header = pydicom.Dataset()
    header.Modality = "CT"
    for tag in PATIENT_AND_STUDY:
        setattr(header, tag, "")
    for tag in IDENTITY:
        if not read.get(tag):
            raise ImageError("its slice {file} has no {tag}", file=one.path.name, tag=Words(tag))
        setattr(header, tag, str(read[tag].value))
    if header.SOPClassUID not in _CLASSES:
        sentence = "its slice {file} is of SOP class {uid}, not a CT image"
        raise ImageError(sentence, file=one.path.name, uid=str(header.SOPClassUID))
    header.FrameOfReferenceUID = read.get("FrameOfReferenceUID") or hashed_uid("frame", header.SeriesInstanceUID)
    try:
        header.Rows, header.Columns = int(read.Rows), int(read.Columns)
        header.PixelSpacing = _decimals(read.PixelSpacing, 2)
        header.ImagePositionPatient = _decimals(read.ImagePositionPatient, 3)
        header.ImageOrientationPatient = _decimals(read.ImageOrientationPatient, 6)
        header.SliceThickness = _decimals([read.get("SliceThickness") or slice_mm], 1)[0]
    except (AttributeError, TypeError, ValueError):
        sentence = "its slice {file} has no usable size, position, orientation or spacing"
        raise ImageError(sentence, file=one.path.name) from None
    return header


def _readable(one: SliceFile) -> pydicom.Dataset:
    """A slice's header, with all tags decoded that are not copied. Raises ImageError where one cannot be."""
    try:
        for tag in OF_RESULTS:
            if tag not in _COPIED:
                one.header.get(tag)
    except Exception:  # pydicom raises errors of many kinds for a damaged tag
        raise ImageError("its file {file} is damaged", file=one.path.name) from None
    return one.header


def _decimals(values: Sequence[float], count: int) -> list[DSfloat]:
    if len(values) != count:
        raise ValueError(f"{count} numbers are needed, not {len(values)}")
    return [DSfloat(float(value), auto_format=True) for value in values]


def plane_of(header: pydicom.Dataset) -> np.ndarray:
    """The matrix [3, 3] of a slice: (row, column, 1) -> (L, P, S) in mm. Whole numbers are the centres of pixels."""
    along_row, along_column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = header.PixelSpacing
    position = np.array(header.ImagePositionPatient, float)
    return np.stack([along_column * float(between_rows), along_row * float(between_columns), position], axis=1)


def _check_place(labels: Volume, slices: Sequence[SliceFile], headers: Sequence[pydicom.Dataset]) -> None:
    """Raise ImageError unless the slices have the labels' order, and the outer ones lie where the labels' do."""
    positions = np.array([header.ImagePositionPatient for header in headers], float)
    if (np.diff(positions @ labels.affine[:3, 0]) <= 0).any():
        raise ImageError("its slices are not in the order of the labels'")
    last_row, last_column = labels.shape[1] - 1, labels.shape[2] - 1
    corners = np.array([[0, 0, 1], [last_row, 0, 1], [0, last_column, 1]]).T
    tolerance_mm = max(_PLACE_TOLERANCE_MM, labels.spacing_mm[0] / 2)
    for z in (0, labels.shape[0] - 1):
        wanted = labels.affine[:3] @ np.insert(corners, 0, z, axis=0)
        if not np.linalg.norm(plane_of(headers[z]) @ corners - wanted, axis=0).max() <= tolerance_mm:
            sentence = "its slice {file} does not lie where slice {z} of the labels does"
            raise ImageError(sentence, file=slices[z].path.name, z=z)


def _study(one: SliceFile) -> tuple[pydicom.Dataset, str, str]:
    """Patient and study of a file, and the date and time for objects that are made from it."""
    study = pydicom.Dataset()
    with pydicom.config.disable_value_validation():
        read = _readable(one)
        study.StudyInstanceUID = read.StudyInstanceUID
        for tag in PATIENT_AND_STUDY:
            setattr(study, tag, "")
        for tag in _COPIED:
            if tag in read:
                study[tag] = _copied(one, tag)
        for name in DATED:
            date, time = str(read.get(f"{name}Date") or ""), str(read.get(f"{name}Time") or "")
            if re.fullmatch(r"\d{8}", date):
                return study, date, time if _TIME.fullmatch(time) else _NO_TIME
    return study, _NO_DATE, _NO_TIME


def _copied(one: SliceFile, tag: str) -> pydicom.DataElement | RawDataElement:
    """A copy of an element that no longer depends on its file's encoding.

    A text is copied byte for byte, because it may not be in the character set that the file claims.
    """
    try:
        raw = one.header.get_item(tag)
        kind = dictionary_VR(tag)
        if isinstance(raw, RawDataElement) and kind in STR_VR and raw.VR in (None, kind):
            return raw._replace(VR=kind)
        element = copy.deepcopy(one.header[tag])
        if element.VR == "SQ":
            for item in element.value:
                list(item.iterall())
        return element
    except Exception:  # pydicom raises errors of many kinds for a damaged element
        raise ImageError("its file {file} is damaged", file=one.path.name) from None
