"""Read back what the program's DICOM objects say of nodes: their voxels in a SEG, and their tracks in a report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID

from lnq.dicom.header import SliceFile
from lnq.errors import ImageError, StartError
from lnq.results.dicom_common import Track

_GROUP, _IDENTIFIER, _UID, _CENTER = "125007", "112039", "112040", "111010"  # codes of DCM
_SEGMENT = "121214"  # Referenced Segmentation Frame; a segment is named by 121191
IDENTIFIER = re.compile(r"[ -\[\]-~]{1,64}")  # what every DICOM object can hold; other nodes are called by their UID
_SEGMENTS = (_SEGMENT, "121191")


def labels_on_slices(path: Path, slices: Sequence[SliceFile]) -> np.ndarray:
    """Each segment's number in its voxels, int16 [slice, row, column], in the order of `slices`.

    Raises ImageError where the file is damaged or of other slices.
    """
    at = {}
    for index, one in enumerate(slices):
        at[str(one.header.SOPInstanceUID), one.frame] = index
    try:
        seg = pydicom.dcmread(path)
        frames = np.asarray(seg.pixel_array) > 0
        frames = frames.reshape(-1, *frames.shape[-2:])
        labels = np.zeros((len(slices), *frames.shape[1:]), np.int16)
        for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
            number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            source = groups.DerivationImageSequence[0].SourceImageSequence[0]
            within = int(source.get("ReferencedFrameNumber") or 1) - 1
            labels[at[str(source.ReferencedSOPInstanceUID), within]][frame] = number
    except KeyError:
        raise ImageError("{subject} is of other slices than its CT", subject=path.name) from None
    except Exception:  # pydicom raises errors of many kinds for a damaged file
        raise ImageError("{subject} is damaged", subject=path.name) from None
    return labels


@dataclass(frozen=True, eq=False)
class Reported:
    """A node of a report."""

    track: Track
    centre_mm: np.ndarray | None  # (L, P, S); None where the report has none
    segment: int | None  # number of its segment


@dataclass(frozen=True)
class ReportedNodes:
    """What a structured report says of nodes."""

    nodes: tuple[Reported, ...]  # those with a tracking UID
    series: frozenset[str]  # UIDs of the series that it is about


def read_sr(path: Path) -> ReportedNodes:
    """Read a structured report. Raises StartError where the file is none, or gives one UID to two nodes."""
    try:
        report = pydicom.dcmread(path)
        found = [_reported(group) for group in _groups(report)]
        evidence = report.get("CurrentRequestedProcedureEvidenceSequence", ())
        series = frozenset(str(one.SeriesInstanceUID) for study in evidence for one in study.ReferencedSeriesSequence)
    except Exception:  # pydicom raises errors of many kinds for a damaged file
        raise StartError(f"{path} cannot be read as a DICOM structured report") from None
    if report.get("Modality") != "SR" or "ContentSequence" not in report:
        raise StartError(f"{path} is no DICOM structured report")
    nodes = tuple(one for one in found if one is not None)
    if len({one.track.uid for one in nodes}) < len(nodes):
        raise StartError(f"{path} gives one tracking UID to two nodes")
    return ReportedNodes(nodes, series)


def _groups(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """All measurement groups of a report's content."""
    for child in item.get("ContentSequence", ()):
        if _code(child) == _GROUP:
            yield child
        else:
            yield from _groups(child)


def _reported(group: pydicom.Dataset) -> Reported | None:
    identifier, uid, centre, segment = "", "", None, None
    for item in group.get("ContentSequence", ()):
        code = _code(item)
        if code == _IDENTIFIER:
            identifier = str(item.TextValue)
        elif code == _UID:
            uid = str(item.UID)
        elif code == _CENTER and item.ValueType == "SCOORD3D":
            centre = np.array(item.GraphicData, float)[:3]
        elif code in _SEGMENTS and "ReferencedSOPSequence" in item:
            number = item.ReferencedSOPSequence[0].get("ReferencedSegmentNumber")
            segment = int(number) if isinstance(number, (int, str)) else None  # of several, none is the node
    if not UID(uid).is_valid:
        return None
    return Reported(Track(identifier if IDENTIFIER.fullmatch(identifier) else uid, uid), centre, segment)


def _code(item: pydicom.Dataset) -> str | None:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names and "CodeValue" in names[0] else None
