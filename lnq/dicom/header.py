"""The header of one DICOM file: how such a file is told, what is read of it, and what kind of image it is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom

from lnq.errors import ImageError

PREAMBLE_BYTES = 132  # the last four are "DICM"
IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
SCALE = ("RescaleSlope", "RescaleIntercept")
PATIENT_AND_STUDY = (  # of which objects must have an element, empty where the CT lacks it
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber",
)  # fmt: skip
MORE_OF_STUDY = (  # which objects leave out where the CT lacks them
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
DATED = ("Study", "Series", "Acquisition", "Content", "InstanceCreation")  # what has a date and a time
OF_CHOICE = (  # what tells which series a file belongs to, and whether that is a CT to segment
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
OF_IMAGE = (*OF_CHOICE, *GEOMETRY, *SCALE, "SamplesPerPixel", "BitsAllocated")  # what is needed to read the pixels
OF_RESULTS = (  # what objects that refer to a slice need besides
    *IDENTITY,
    *PATIENT_AND_STUDY,
    *MORE_OF_STUDY,
    "FrameOfReferenceUID",
    "SliceThickness",
    *(f"{name}{kind}" for name in DATED for kind in ("Date", "Time")),
)


@dataclass(frozen=True, eq=False)
class SliceFile:
    """A file of a CT series, with all of its header that images and results need: it is read once."""

    path: Path
    header: pydicom.Dataset

    @staticmethod
    def read(path: Path) -> SliceFile:
        """What is needed for the image is decoded. Raises ImageError where that is damaged."""
        return SliceFile(path, read_header(path, OF_IMAGE, OF_RESULTS))


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts with these bytes carries DICOM's preamble."""
    return start[PREAMBLE_BYTES - 4 : PREAMBLE_BYTES] == b"DICM"


def is_dicom_file(path: Path) -> bool:
    """Whether a file carries DICOM's preamble; not where it cannot be read."""
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(PREAMBLE_BYTES))
    except OSError:
        return False


def read_header(path: Path, tags: Sequence[str], later: Sequence[str] = ()) -> pydicom.Dataset:
    """These tags of a DICOM file, decoded, and those of `later` as they are. Raises ImageError where it is damaged."""
    try:
        return parse_header(path, tags, later)
    except Exception:
        raise ImageError("its file {file} is damaged", file=path.name) from None


def parse_header(source: Path | BinaryIO, tags: Sequence[str], later: Sequence[str] = ()) -> pydicom.Dataset:
    """As `read_header`, also of a stream. What pydicom raises of a damaged one is of many kinds."""
    if isinstance(source, Path):
        with _Bounded(source) as file:
            return parse_header(file, tags, later)
    header = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=[*tags, *later])
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


def is_scout(header: pydicom.Dataset) -> bool:
    """Whether an image is a scout view (a localizer)."""
    return "LOCALIZER" in str(header.get("ImageType") or "").upper()


def is_ct_slice(header: pydicom.Dataset) -> bool:
    """Whether a header (with Modality and ImageType) is that of a CT image, and no scout view."""
    return header.get("Modality") == "CT" and not is_scout(header)


def count_of(header: pydicom.Dataset, tag: str) -> int:
    """What a tag counts, 1 where it is missing or no number."""
    try:
        return int(header.get(tag) or 1)
    except (TypeError, ValueError):
        return 1
