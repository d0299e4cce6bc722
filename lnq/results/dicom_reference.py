"""What the headers of a CT series tell to objects that refer to it: identity, geometry, patient and study."""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage
from pydicom.valuerep import DSfloat

from lnq.dicom.read import read_header
from lnq.errors import ImageError
from lnq.image.volume import Volume

_CLASSES = (CTImageStorage, SecondaryCaptureImageStorage)  # workstations store reformatted CTs as the latter
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
_SLICE_TAGS = (*_IDENTITY, *_GEOMETRY, "FrameOfReferenceUID", "SliceThickness")
_NEEDED_OF_STUDY = (  # empty where the source lacks one
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber",
)  # fmt: skip
_COPIED_OF_STUDY = (  # left out where the source lacks one
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "LongitudinalTemporalInformationModified",
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "OtherPatientNames",
    "PatientBirthTime", "EthnicGroup", "PatientComments", "QualityControlSubject", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "StudyDescription", "ProcedureCodeSequence", "PhysiciansOfRecord", "ConsultingPhysicianName",
    "NameOfPhysiciansReadingStudy", "IssuerOfAccessionNumberSequence",
    "AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight", "MedicalAlerts", "Allergies",
    "SmokingStatus", "PregnancyStatus", "LastMenstrualDate", "PatientState", "Occupation", "AdditionalPatientHistory",
    "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)  # fmt: skip
_DATED = ("Study", "Series", "Acquisition", "Content", "InstanceCreation")  # where a date is looked for, in this order
_NO_DATE, _NO_TIME = "19000101", "000000"  # objects must have a date, series need not
_TIME = re.compile(r"\d\d(\d\d(\d\d(\.\d{1,6})?)?)?")
_PLACE_TOLERANCE_MM = 1.0  # headers round positions and directions


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """A CT series as other objects see it."""

    slices: tuple[pydicom.Dataset, ...]  # of each, in the labels' order: identity and geometry, no patient
    study: pydicom.Dataset  # patient and study, as each object holds them
    date: str  # of the study, as each object holds it
    time: str


def read_source(labels: Volume, slices: Sequence[Path]) -> SourceSeries:
    """Read the headers of a CT's files, in the order of the first axis of `labels`, [Z, Y, X] on the CT's own grid.

    A series without frame of reference is given one, derived from its UID; without any date it is of 1900-01-01.
    Raises ValueError for another number of slices, and ImageError for a file that is damaged, is not where the labels
    say or lacks what an object must name.
    """
    if labels.shape[0] != len(slices):
        raise ValueError(f"The labels have {labels.shape[0]} slices, the series has {len(slices)} files")
    try:
        return SourceSeries(tuple(_read_slices(labels, slices)), *_read_study(slices[0]))
    except ImageError as error:
        raise ImageError(f"No DICOM object can refer to {slices[0].parent.name}: {error}") from None


def hashed_uid(*words: str) -> str:
    """The UID of these words: always the same, and no other's (a name-based UUID, RFC 4122)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(10).join(words)).int}"


def _read_slices(labels: Volume, slices: Sequence[Path]) -> list[pydicom.Dataset]:
    with pydicom.config.disable_value_validation():
        headers = [_slice_header(path, labels.spacing_mm[0]) for path in slices]
    first = headers[0]
    for tag, what in (
        ("StudyInstanceUID", "studies"),
        ("SeriesInstanceUID", "series"),
        ("FrameOfReferenceUID", "frames of reference"),
    ):
        if len({str(header[tag].value) for header in headers}) > 1:
            raise ImageError(f"its slices are of different {what}")
    for path, header in zip(slices, headers, strict=True):
        if (header.Rows, header.Columns) != labels.shape[1:]:
            size = "{} x {}".format(*labels.shape[1:])
            raise ImageError(f"its slice {path.name} has {header.Rows} x {header.Columns} pixels, its labels {size}")
    _check_place(labels, slices, headers)
    for header in headers:
        header.ImageOrientationPatient = first.ImageOrientationPatient  # headers round the cosines of each slice
    return headers


def _slice_header(path: Path, slice_mm: float) -> pydicom.Dataset:
    """Identity and geometry of a slice, all of them there; patient and study left blank."""
    read = read_header(path, _SLICE_TAGS)
    header = pydicom.Dataset()
    header.Modality = "CT"
    for tag in _NEEDED_OF_STUDY:
        setattr(header, tag, "")
    for tag in _IDENTITY:
        if not read.get(tag):
            raise ImageError(f"its slice {path.name} has no {tag}")
        setattr(header, tag, str(read[tag].value))
    if header.SOPClassUID not in _CLASSES:
        raise ImageError(f"its slice {path.name} is of SOP class {header.SOPClassUID}, not a CT image of one slice")
    header.FrameOfReferenceUID = read.get("FrameOfReferenceUID") or hashed_uid("frame", header.SeriesInstanceUID)
    try:
        header.Rows, header.Columns = int(read.Rows), int(read.Columns)
        header.PixelSpacing = _decimals(read.PixelSpacing, 2)
        header.ImagePositionPatient = _decimals(read.ImagePositionPatient, 3)
        header.ImageOrientationPatient = _decimals(read.ImageOrientationPatient, 6)
        header.SliceThickness = _decimals([read.get("SliceThickness") or slice_mm], 1)[0]
    except (AttributeError, TypeError, ValueError):
        raise ImageError(f"its slice {path.name} has no usable size, position, orientation or spacing") from None
    return header


def _decimals(values: Sequence[float], count: int) -> list[DSfloat]:
    if len(values) != count:
        raise ValueError(f"{count} numbers are needed, not {len(values)}")
    return [DSfloat(float(value), auto_format=True) for value in values]


def plane_of(header: pydicom.Dataset) -> np.ndarray:
    """[3, 3] of a slice of a SourceSeries: (row, column, 1) -> (L, P, S) in mm; pixels' centres have whole numbers."""
    along_row, along_column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = header.PixelSpacing
    position = np.array(header.ImagePositionPatient, float)
    return np.stack([along_column * float(between_rows), along_row * float(between_columns), position], axis=1)


def _check_place(labels: Volume, slices: Sequence[Path], headers: Sequence[pydicom.Dataset]) -> None:
    """Raise ImageError unless the slices follow each other as the labels' do, the outer ones at their very places."""
    positions = np.array([header.ImagePositionPatient for header in headers], float)
    if (np.diff(positions @ labels.affine[:3, 0]) <= 0).any():
        raise ImageError("its slices are not in the order of the labels'")
    last_row, last_column = labels.shape[1] - 1, labels.shape[2] - 1
    corners = np.array([[0, 0, 1], [last_row, 0, 1], [0, last_column, 1]]).T
    tolerance_mm = max(_PLACE_TOLERANCE_MM, labels.spacing_mm[0] / 2)
    for z in (0, labels.shape[0] - 1):
        wanted = labels.affine[:3] @ np.insert(corners, 0, z, axis=0)
        if not np.linalg.norm(plane_of(headers[z]) @ corners - wanted, axis=0).max() <= tolerance_mm:
            raise ImageError(f"its slice {slices[z].name} does not lie where slice {z} of the labels does")


def _read_study(path: Path) -> tuple[pydicom.Dataset, str, str]:
    """Patient and study of a file, and the date and time of what is made of it."""
    dated = [f"{name}{kind}" for name in _DATED for kind in ("Date", "Time")]
    study = pydicom.Dataset()
    with pydicom.config.disable_value_validation():
        read = read_header(path, (*_NEEDED_OF_STUDY, *_COPIED_OF_STUDY, "StudyInstanceUID", *dated))
        study.StudyInstanceUID = read.StudyInstanceUID
        for tag in _NEEDED_OF_STUDY:
            setattr(study, tag, "")
        for tag in (*_NEEDED_OF_STUDY, *_COPIED_OF_STUDY):
            if tag in read:
                study[tag] = _decoded(read[tag])
        for name in _DATED:
            date, time = str(read.get(f"{name}Date") or ""), str(read.get(f"{name}Time") or "")
            if re.fullmatch(r"\d{8}", date):
                return study, date, time if _TIME.fullmatch(time) else _NO_TIME
    return study, _NO_DATE, _NO_TIME


def _decoded(element: pydicom.DataElement) -> pydicom.DataElement:
    """A copy that no longer depends on how its file was encoded."""
    element = copy.deepcopy(element)
    if element.VR == "SQ":
        for item in element.value:
            list(item.iterall())
    return element
