"""Write the measured nodes of a DICOM series as a structured report (TID 1500, Measurement Report)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from lnq.dicom.header import SliceFile
from lnq.image.volume import Volume
from lnq.nodes.measure import Node
from lnq.nodes.stations import UNCERTAIN
from lnq.results.dicom_common import (
    ARTIFICIAL_INTELLIGENCE,
    LYMPH_NODE,
    MEDIASTINUM,
    TISSUE,
    Maker,
    Origin,
    Track,
    complete,
    origin_of,
    save,
)
from lnq.results.node_table import NodeRow, rows_of

if TYPE_CHECKING:
    import highdicom
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, VolumetricROIMeasurementsAndQualitativeEvaluations

    _Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations

_MM = Code("mm", "UCUM", "mm")
_MM3 = Code("mm3", "UCUM", "cubic millimeter")
_HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
_ONE = Code("1", "UCUM", "no units")
_MEAN = Code("373098007", "SCT", "Mean")
_VOXEL_SUM = Code("126030", "DCM", "Sum of segmented voxel method for volume")
_MEASUREMENTS = (  # column of the table, name, unit, method, derivation
    ("volume_mm3", Code("118565006", "SCT", "Volume"), _MM3, _VOXEL_SUM, None),
    ("short_axis_mm", Code("103340004", "SCT", "Short axis"), _MM, None, None),
    ("long_axis_mm", Code("103339001", "SCT", "Long axis"), _MM, None, None),
    # IBSI's mesh is that of marching cubes. Its outermost points are centres of voxel faces, as in Node's diameter.
    ("diameter_mm", Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh"), _MM, None, None),
    ("mean_hu", Code("112031", "DCM", "Attenuation Coefficient"), _HU, None, _MEAN),
    ("mean_probability", Code("110854", "DCM", "Fractional Probabilistic Segmentation"), _ONE, None, _MEAN),
    # DICOM has no code for it. Its "Certainty of Finding" would claim more.
    ("agreement", Code("agreement", "99LNQ", "Share of networks that mark the node"), _ONE, None, None),
)
_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
_ENGLISH = Code("en-US", "RFC5646", "English (United States)")
_PROCEDURE = Code("121058", "DCM", "Procedure reported")
_CENTER = Code("111010", "DCM", "Center")
_LATERALITY = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
_MEDIASTINAL = Code("62683002", "SCT", "mediastinal lymph node")
_SITES = {  # of a station; 5/6 is either of two, for which SNOMED CT has no code together
    "2": Code("127927006", "SCT", "upper paratracheal lymph node (mediastinal)"),
    "3A": Code("5296000", "SCT", "anterior mediastinal lymph node"),
    "3P": Code("25447008", "SCT", "posterior mediastinal lymph node"),
    "4": Code("127932007", "SCT", "lower paratracheal (including azygous) lymph node"),
    "5/6": _MEDIASTINAL,
    "7": Code("28330007", "SCT", "subcarinal lymph node"),
    "8": Code("127940001", "SCT", "paraesophageal lymph node below carina"),
    "10": Code("53074004", "SCT", "hilar lymph node"),
}
_SIDES = {"R": "right", "L": "left"}
_STATION = Code("station", "99LNQ", "Station of the IASLC map, coarsely")
_DEVICE = Code("121007", "DCM", "Device")
_CT = Code("25045-6", "LN", "CT unspecified body region")
_QUALITATIVE = Code("C0034375", "UMLS", "Qualitative Evaluations")
_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
_WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
_COMMENT = Code("121106", "DCM", "Comment")


@dataclass(frozen=True, eq=False)
class Additions:
    """What a report says beyond what is measured in its CT."""

    of_nodes: Mapping[int, Sequence[highdicom.sr.Measurement | highdicom.sr.QualitativeEvaluation]]  # by number
    groups: Sequence[highdicom.sr.MeasurementsAndQualitativeEvaluations]  # without a node in this CT
    content: str  # differs where the additions do


def write_sr(
    path: Path,
    labels: Volume,
    nodes: Sequence[Node],
    slices: Sequence[SliceFile],
    maker: Maker,
    tracks: Sequence[Track] | None = None,
    additions: Additions | None = None,
) -> None:
    """Write the nodes' measurements, rounded as in `nodes.csv`. Without nodes and
    additions, the report says that there are none.

    Each node is one group (TID 1411). It refers to its segment in the SEG object that `write_seg` makes from the same
    labels, slices, maker and tracks, so that object must be written beside the report. The group also holds the
    centroid as SCOORD3D "Center", an addition that the template allows. Arguments and errors are those of
    `write_seg`, and `additions`, whose parts are built with highdicom. The same arguments give the same bytes.
    """
    import highdicom

    origin = origin_of(labels, nodes, slices, maker, tracks)
    rows, more = rows_of("", nodes), additions or Additions({}, (), "")
    report = highdicom.sr.Comprehensive3DSR(
        evidence=[*origin.source.objects, _segmentation(origin)],
        content=_report(origin, rows, more),
        series_instance_uid=origin.series_uid("SR"),
        series_number=1,
        sop_instance_uid=origin.instance_uid("SR", json.dumps([row.plain() for row in rows]) + more.content),
        instance_number=1,
        manufacturer=maker.name,
        is_complete=True,
        specific_character_set=None,
    )
    complete(report, origin, "SR")
    save(report, path)


def _segmentation(origin: Origin) -> pydicom.Dataset:
    """The UIDs that a reference to the SEG object needs."""
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = SegmentationStorage
    dataset.SOPInstanceUID = origin.instance_uid("SEG")
    dataset.SeriesInstanceUID = origin.series_uid("SEG")
    dataset.StudyInstanceUID = origin.source.study.StudyInstanceUID
    return dataset


def _report(origin: Origin, rows: Sequence[NodeRow], more: Additions) -> pydicom.Dataset:
    """The root of the report's content."""
    from highdicom import sr

    maker = origin.maker
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=origin.device_uid(), name=maker.name, model_name=maker.name, serial_number=maker.weights_sha256
    )
    observer = sr.ObservationContext(observer_device_context=sr.ObserverContext(_concept(_DEVICE), device))
    groups: list[_Group] = [*(_group(origin, row, more.of_nodes.get(row.number, ())) for row in rows), *more.groups]
    if groups:
        return sr.MeasurementReport(observer, _CT, groups)[0]
    root = sr.ContainerContentItem(_TITLE, template_id="1500")
    root.ContentSequence = sr.ContentSequence(
        [
            *sr.LanguageOfContentItemAndDescendants(_concept(_ENGLISH)),
            *observer,
            sr.CodeContentItem(_PROCEDURE, _CT, "HAS CONCEPT MOD"),
            _nothing_found(maker),
        ]
    )
    return root


def _concept(code: Code) -> highdicom.sr.CodedConcept:
    from highdicom import sr

    return sr.CodedConcept.from_code(code)


def _site(row: NodeRow) -> tuple[Code, Code | None]:
    """Where a node lies: that of its station and its side, or the mediastinum where the station is not known."""
    station = row.station or UNCERTAIN
    if station == UNCERTAIN:
        return MEDIASTINUM, _LATERALITY.get(row.side or "")
    name, side = (station[:-1], _SIDES[station[-1]]) if station[-1] in _SIDES else (station, row.side or "")
    return _SITES[name], _LATERALITY.get(side)


def _evaluations(row: NodeRow) -> list[highdicom.sr.QualitativeEvaluation]:
    from highdicom import sr

    if row.station is None:
        return []
    value = "Uncertain" if row.station == UNCERTAIN else f"Station {row.station}"
    return [sr.QualitativeEvaluation(_STATION, Code(row.station, "99LNQ", value))]


def _nothing_found(maker: Maker) -> highdicom.sr.ContainerContentItem:
    """The evaluation that no node was found. It is qualitative, because TID 1500 has no group without a finding."""
    from highdicom import sr

    container = sr.ContainerContentItem(_QUALITATIVE, relationship_type="CONTAINS")
    container.ContentSequence = sr.ContentSequence(
        [
            sr.CodeContentItem(_SUMMARY, _WITHOUT_FINDINGS, "CONTAINS"),
            sr.TextContentItem(_COMMENT, f"{maker.name} {maker.version} found no mediastinal lymph node", "CONTAINS"),
        ]
    )
    return container


def _group(
    origin: Origin, row: NodeRow, more: Sequence[highdicom.sr.Measurement | highdicom.sr.QualitativeEvaluation]
) -> highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    from highdicom import sr

    maker, number, first = origin.maker, row.number, origin.source.slices[0]
    segmentation, values, track = _segmentation(origin), row.plain(), origin.track(number)
    measurements = [one for one in more if isinstance(one, sr.Measurement)]
    evaluations = [one for one in more if isinstance(one, sr.QualitativeEvaluation)]
    group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(track.uid, track.identifier),
        referenced_segment=sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            number,
            source_series=sr.SourceSeriesForSegmentation(first.SeriesInstanceUID),
        ),
        finding_category=TISSUE,
        finding_type=LYMPH_NODE,
        finding_sites=[sr.FindingSite(*_site(row))],
        algorithm_id=sr.AlgorithmIdentification(
            maker.name, maker.version, [f"weights_sha256={maker.weights_sha256}"], ARTIFICIAL_INTELLIGENCE
        ),
        measurements=[
            *(
                sr.Measurement(name, values[column], unit, method=method, derivation=derivation)
                for column, name, unit, method, derivation in _MEASUREMENTS
                if column in values
            ),
            *measurements,
        ],
        qualitative_evaluations=[*_evaluations(row), *evaluations],
    )
    centre = np.array([[row.l_mm, row.p_mm, row.s_mm]])
    point = sr.Scoord3DContentItem(_CENTER, "POINT", centre, first.FrameOfReferenceUID, relationship_type="CONTAINS")
    group[0].ContentSequence.append(point)
    return group
