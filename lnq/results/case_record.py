"""The record of a case's outcome, as manifest and report hold it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lnq.inference.backends import Model
from lnq.inference.spec import INT8_WEIGHTS_NAME, WEIGHTS_NAME
from lnq.plain import check_types, from_plain, to_plain
from lnq.version import __version__

DONE, FAILED, SKIPPED = "done", "failed", "skipped"

IMAGE_FORMATS = {"mha": ".mha", "nifti": ".nii.gz", "nrrd": ".nrrd"}
DICOM_FORMATS = {"dicom-seg": ".dcm", "rtstruct": ".dcm"}
FORMATS = IMAGE_FORMATS | DICOM_FORMATS
SEGMENTS = "segments.dcm"  # the SEG that a structured report refers to, written where the mask has another format
PREVIEW, PAGE = "preview.png", "report.html"  # the picture and the page of a case
REPORT = "nodes.dcm"  # the structured report
CAPTURES = "captures"  # folder of the secondary captures
PDF = "page.dcm"  # the encapsulated PDF


@dataclass(frozen=True)
class ResultOptions:
    """Which results are written. A case that was done with other options is done again."""

    format: str = "mha"  # of the mask, one of FORMATS
    sr: bool = False  # the nodes as a DICOM structured report
    captures: bool = False  # slices with outlines and numbers as DICOM secondary captures
    pdf: bool = False  # a page with picture and table as a DICOM encapsulated PDF
    probability: bool = False  # a map of the probability of node
    preview: bool = True  # a picture
    page: bool = True  # a page with a viewer

    @property
    def wants_dicom(self) -> bool:
        """Whether any result is a DICOM object, which refers to the slices of its series."""
        return self.sr or self.captures or self.pdf or self.format in DICOM_FORMATS

    @property
    def dicom_objects(self) -> tuple[str, ...]:
        """Names of the DICOM objects beside the mask, of captures the folder's."""
        return (*self.of_report, *((CAPTURES,) if self.captures else ()), *((PDF,) if self.pdf else ()))

    @property
    def of_report(self) -> tuple[str, ...]:
        """Names of the structured report, and of the SEG that it refers to unless that is the mask."""
        if not self.sr:
            return ()
        return (REPORT,) if self.format == "dicom-seg" else (SEGMENTS, REPORT)


@dataclass(frozen=True)
class Versions:
    """The program, model and device that made a result."""

    lnq: str
    model: str  # SHA-256 of the loaded model's specification
    weights: str  # SHA-256 of its weights, see `ModelSpec.joint_sha256`
    backend: str
    device: str
    mirror: str | None = None  # number of flips that each window was averaged over; None without flips
    members: str | None = None  # number of networks that were averaged; None for one

    @staticmethod
    def of(model: Model) -> Versions:
        """The versions of this program and a loaded model."""
        plain = json.dumps(dataclasses.asdict(model.spec), sort_keys=True)
        is_f32 = model.precision == "f32"
        return Versions(
            lnq=__version__,
            model=hashlib.sha256(plain.encode()).hexdigest(),
            weights=model.spec.joint_sha256(WEIGHTS_NAME if is_f32 else INT8_WEIGHTS_NAME),
            backend=model.backend if is_f32 else f"{model.backend} {model.precision}",
            device=model.device,
            mirror=str(model.spec.mirror) if model.spec.mirror else None,
            members=str(model.spec.members) if model.spec.members > 1 else None,
        )

    def plain(self) -> dict[str, str]:
        """Plain data for JSON, without values that are None."""
        return {name: value for name, value in to_plain(self).items() if value is not None}


@dataclass(frozen=True)
class TruthScores:
    """Scores of a mask against its truth."""

    dice: float
    assd_mm: float | None  # None where only one of the two masks is empty
    truth_sha256: str  # of the truth's file


@dataclass(frozen=True)
class Findings:
    """What was found in a case that is done, and from which input."""

    volume_mm3: float  # of all nodes
    options: ResultOptions
    nodes: int  # their number
    input_sha256: str  # of the case's contents
    input_state: tuple[int, int, int]  # number, bytes and latest change (ns) of the case's files
    scores: TruthScores | None = None
    left_out: tuple[str, ...] = ()  # names of files that could not be made
    mask_sha256: str = ""  # of the mask's file

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON, with the scores at the same level as the rest."""
        plain = to_plain(self)
        scores = plain.pop("scores") or {}
        return {"volume_mm3": plain.pop("volume_mm3"), **scores, **plain}


@dataclass(frozen=True)
class CaseRecord:
    """A line of the manifest."""

    case: str  # the case's name
    id: str  # the case's identity, a hex SHA-256 that is the same in every run
    input: str | None  # path; None where names are private
    series_uid: str | None
    status: str  # DONE, FAILED or SKIPPED
    error: str | None = None  # one sentence that says why the case is not done
    mask: str | None = None  # path relative to the output folder
    warnings: tuple[str, ...] = ()
    versions: Versions | None = None
    findings: Findings | None = None  # None unless the case is done
    seconds: float | None = None
    chosen: str | None = None  # why this series of its study; None where there was no choice

    @property
    def is_done(self) -> bool:
        return self.status == DONE

    @property
    def scores(self) -> TruthScores | None:
        return self.findings.scores if self.findings else None

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON. What is not known of the last four fields has no entry."""
        plain = to_plain(self)
        for name in ("versions", "findings", "seconds"):
            del plain[name]
        if self.chosen is None:
            del plain["chosen"]
        versions = {"versions": self.versions.plain()} if self.versions else {}
        seconds = {"seconds": self.seconds} if self.seconds is not None else {}
        if self.findings is None:
            return plain | seconds | versions
        return plain | versions | self.findings.plain() | seconds

    def line(self) -> str:
        """The record as a line of the manifest."""
        return json.dumps(self.plain()) + "\n"

    @staticmethod
    def from_plain(data: Mapping[str, Any]) -> CaseRecord:
        """Undo `plain`. Raises ValueError, TypeError or AttributeError for data that are no record of this version."""
        names = {field.name for field in dataclasses.fields(CaseRecord)}
        own = {name: value for name, value in data.items() if name in names}
        rest = {name: value for name, value in data.items() if name not in names}
        scores = {f.name: rest.pop(f.name) for f in dataclasses.fields(TruthScores) if f.name in rest}
        if rest:
            own["findings"] = rest | ({"scores": scores} if scores else {})
        record = from_plain(CaseRecord, own)
        check_types(record)
        if record.is_done != (record.findings is not None):
            raise ValueError(f"status {record.status!r} does not fit what was found")
        return record
