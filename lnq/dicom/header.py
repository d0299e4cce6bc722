"""The header of one DICOM file: recognise such a file, read its tags, and tell what kind of image it is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom

from lnq.errors import ImageError

PREAMBLE_BYTES = 132  # at the start of a DICOM file; the last four are "DICM"
IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
SCALE = ("RescaleSlope", "RescaleIntercept")
PATIENT_AND_STUDY = (  # every object must have these elements, empty where the CT lacks them
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber",
)  # fmt: skip
MORE_OF_STUDY = (  # objects leave out those of these elements that the CT lacks
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
DATED = ("Study", "Series", "Acquisition", "Content", "InstanceCreation")  # each has a tag ...Date and a tag ...Time
OF_CHOICE = (  # tags that tell which series a file belongs to, and whether that is a CT to segment
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "SeriesNumber",
    "ContrastBolusAgent",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "Rows",  # comes after all the others: a header that has it was not cut off
)
OF_IMAGE = (*OF_CHOICE, *GEOMETRY, *SCALE, "SamplesPerPixel", "BitsAllocated")  # tags needed to read the pixels
OF_RESULTS = (  # tags that objects need to refer to a slice, besides those of the image
    *IDENTITY,
    *PATIENT_AND_STUDY,
    *MORE_OF_STUDY,
    "FrameOfReferenceUID",
    "SliceThickness",
    *(f"{name}{kind}" for name in DATED for kind in ("Date", "Time")),
)


@dataclass(frozen=True, eq=False)
class SliceFile:
    """A file of a CT series, and the tags of its header that images and results need. The header is read only once."""

    path: Path
    header: pydicom.Dataset

    @staticmethod
    def read(path: Path) -> SliceFile:
        """Read a file's header and decode the tags of the image. Raises ImageError where these are damaged."""
        return SliceFile(path, read_header(path, OF_IMAGE, OF_RESULTS))


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts with these bytes carries DICOM's preamble."""
    return start[PREAMBLE_BYTES - 4 : PREAMBLE_BYTES] == b"DICM"


def is_dicom_file(path: Path) -> bool:
    """Whether a file carries DICOM's preamble. False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(PREAMBLE_BYTES))
    except OSError:
        return False


def read_header(path: Path, tags: Sequence[str], later: Sequence[str] = ()) -> pydicom.Dataset:
    """Read `tags` and `later` of a DICOM file. Only the former are decoded. Raises ImageError for a damaged file."""
    try:
        return parse_header(path, tags, later)
    except Exception:
        raise ImageError("its file {file} is damaged", file=path.name) from None


def parse_header(source: Path | BinaryIO, tags: Sequence[str], later: Sequence[str] = ()) -> pydicom.Dataset:
    """Like `read_header`, also from a stream. pydicom raises errors of many kinds for a damaged one."""
    if isinstance(source, Path):
        with _Bounded(source) as file:
            return parse_header(file, tags, later)
    header = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=[*tags, *later])
    for tag in tags:
        header.get(tag)  # pydicom decodes a value at the first access
    return header


class _Bounded(io.BufferedReader):
    """A file that allocates no more bytes than it has, whatever length a damaged header claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def is_whole(header: pydicom.Dataset) -> bool:
    """Whether a header is complete: it names its object, its series and its modality, and the size of a CT."""
    told = all(header.get(tag) for tag in ("SOPInstanceUID", "SeriesInstanceUID", "Modality"))
    return told and (header.Modality != "CT" or bool(header.get("Rows")))


def is_scout(header: pydicom.Dataset) -> bool:
    """Whether an image is a scout view (a localizer)."""
    return "LOCALIZER" in str(header.get("ImageType") or "").upper()


def is_ct_slice(header: pydicom.Dataset) -> bool:
    """Whether a header (with Modality and ImageType) belongs to a CT image that is not a scout view."""
    return header.get("Modality") == "CT" and not is_scout(header)


def count_of(header: pydicom.Dataset, tag: str) -> int:
    """The count that a tag holds; 1 where it is missing, 0 or not a number."""
    try:
        return int(header.get(tag) or 1)
    except (TypeError, ValueError):
        return 1
