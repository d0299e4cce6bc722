"""The header of one DICOM file: recognise such a file, read its tags, and tell what kind of image it is."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
)

from lnq.dicom.deflated import inflated
from lnq.errors import Damaged, ImageError

PREAMBLE_BYTES = 132  # at the start of a DICOM file; the last four are "DICM"
_LONGEST_FIRST = 256  # bytes of the first element's value, a number or a UID
HEADER_BYTES = (2**16, 2**24)  # unpacked of a file for its header; the larger number where the smaller is too few
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
FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")  # of multi-frame objects
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
OF_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")  # together they tell patients apart
OF_STACK = (  # tags that differ between the stacks of one series, the likeliest first
    "AcquisitionNumber", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "ConvolutionKernel",
    "ImageType", "SliceThickness", "ReconstructionDiameter", "FilterType", "ContrastBolusAgent", "KVP",
    "SeriesDescription", "SeriesNumber", "PatientPosition", "SeriesTime", "AcquisitionTime", "AcquisitionDateTime",
)  # fmt: skip
OF_GATHERING = (  # tags that are read, besides those of the choice, but decoded only when they are needed
    "SOPClassUID", *OF_PATIENT, *OF_STACK, "Columns", "PixelSpacing", "InstanceNumber", "RescaleType",
    "BodyPartExamined", "ProtocolName", "SpecificCharacterSet",
)  # fmt: skip
OF_IMAGE = (  # tags needed to read the pixels
    *OF_CHOICE, *GEOMETRY, *SCALE, "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleType",
)  # fmt: skip
CT_CLASSES = frozenset({CTImageStorage, LegacyConvertedEnhancedCTImageStorage, EnhancedCTImageStorage})
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
    """One slice of a CT series, and the tags of its header that images and results need. A header is read only once."""

    path: Path
    header: pydicom.Dataset
    frame: int = 0  # number of the slice among the frames of its file

    @staticmethod
    def read(path: Path) -> SliceFile:
        """Read a file's header and decode the tags of the image. Raises ImageError where these are damaged."""
        return SliceFile(path, read_header(path, OF_IMAGE, (*OF_GATHERING, *OF_RESULTS, *FRAMES)))


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts with these bytes (PREAMBLE_BYTES) is DICOM, with or without a preamble."""
    return start[PREAMBLE_BYTES - 4 : PREAMBLE_BYTES] == b"DICM" or is_bare(start)


def is_bare(start: bytes) -> bool:
    """Whether a file lacks preamble and prefix: it begins with an element of group 2 or 8, of a believable length."""
    if len(start) < 8 or start[:2] not in (b"\2\0", b"\x08\0") or start[3]:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return int.from_bytes(start[6:8] if explicit else start[4:8], "little") <= _LONGEST_FIRST


def is_dicom_file(path: Path) -> bool:
    """Whether a file is DICOM, by its first bytes. False where it cannot be read."""
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


def find_header(path: Path) -> pydicom.Dataset | None:
    """The tags by which series are gathered; None for a file that is not DICOM, as one without a preamble may turn out.

    Raises ImageError for a damaged file, OSError where it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(PREAMBLE_BYTES)
    if not is_dicom(start):
        return None
    try:
        header = read_header(path, OF_CHOICE, OF_GATHERING)
    except ImageError:
        if is_bare(start):
            return None
        raise
    return None if is_bare(start) and not sop_class(header) else header


def parse_header(source: Path | BinaryIO, tags: Sequence[str], later: Sequence[str] = ()) -> pydicom.Dataset:
    """Like `read_header`, also from a stream. pydicom raises errors of many kinds for a damaged one."""
    if isinstance(source, Path):
        with _Bounded(source) as file:
            return parse_header(file, tags, later)
    for most in HEADER_BYTES:
        plain = inflated(source, most)
        if plain is None:
            return _parsed(source, tags, later)
        with contextlib.suppress(Exception):  # too few bytes, or damaged
            header = _parsed(plain, tags, later)
            if is_whole(header):
                return header
    raise Damaged("it is damaged")


def _parsed(source: BinaryIO, tags: Sequence[str], later: Sequence[str]) -> pydicom.Dataset:
    bare = is_bare(source.read(PREAMBLE_BYTES))
    source.seek(0)
    wanted = [_tag(name) for name in (*tags, *later)]
    header = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=wanted, force=bare)
    for tag in wanted[: len(tags)]:
        header.get(tag)  # pydicom decodes a value at the first access
    return header


@functools.cache
def _tag(name: str) -> BaseTag:
    """A tag by its keyword. pydicom would look it up again for each file."""
    return Tag(name)


class _Bounded(io.BufferedReader):
    """A file that allocates no more bytes than it has, whatever length a damaged header claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def raw_text(header: pydicom.Dataset, tag: str) -> str:
    """A tag's value as the file holds it, blank where it is missing. A value that cannot be decoded does no harm."""
    try:
        element = header.get_item(_tag(tag))
    except Exception:  # pydicom decodes some values even here, and raises errors of many kinds
        return ""
    if element is None:
        return ""
    value = element.value
    if isinstance(element, RawDataElement):
        return (value or b"").decode("latin-1").strip(" \0")
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value if value is not None else "")


def value_of(header: pydicom.Dataset, tag: str) -> Any:
    """A tag's value; None where it is missing or cannot be decoded."""
    try:
        return header.get(tag)
    except Exception:  # pydicom raises errors of many kinds for a damaged value
        return None


def sop_class(header: pydicom.Dataset) -> str:
    """An object's SOP class UID, where necessary the one of the file's own header; blank where neither tells it."""
    meta = getattr(header, "file_meta", None)
    return raw_text(header, "SOPClassUID") or str(meta.get("MediaStorageSOPClassUID") or "" if meta else "")


def kind_of(header: pydicom.Dataset) -> str:
    """What an object is: "ct", "scout", or else the name of its SOP class without "Storage", or blank.

    Its class decides, unless the modality contradicts it. An object without a class is what its modality says.
    """
    uid, modality = sop_class(header), raw_text(header, "Modality")
    is_ct = uid in CT_CLASSES and modality in ("", "CT")
    if is_ct or (modality == "CT" and (not uid or (uid == SecondaryCaptureImageStorage and _lies(header)))):
        return "scout" if is_scout(header) else "ct"
    name = UID(uid).name
    return "" if name == uid else name.removesuffix(" Storage")


def _lies(header: pydicom.Dataset) -> bool:
    """Whether an object tells where its image lies, as a slice in a volume does."""
    return all(header.get(tag) for tag in ("ImagePositionPatient", "ImageOrientationPatient"))


def is_whole(header: pydicom.Dataset) -> bool:
    """Whether a header was read to its end. A CT image says how large it is after all that tells whose it is."""
    kind = kind_of(header)
    if kind in ("ct", "scout") or sop_class(header) in CT_CLASSES:
        return bool(header.get("Rows"))
    return bool(kind or header.get("Modality") or header.get("Rows"))


def is_scout(header: pydicom.Dataset) -> bool:
    """Whether an image is a scout view (a localizer)."""
    return "LOCALIZER" in raw_text(header, "ImageType").upper()


def is_ct_slice(header: pydicom.Dataset) -> bool:
    """Whether a header (with SOPClassUID, Modality and ImageType) belongs to a CT image that is not a scout view."""
    return kind_of(header) == "ct"


def count_of(header: pydicom.Dataset, tag: str) -> int:
    """The count that a tag holds; 1 where it is missing, 0 or not a number."""
    try:
        return int(value_of(header, tag) or 1)
    except (TypeError, ValueError):
        return 1
