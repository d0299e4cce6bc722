"""Reports are read back through highdicom, and through DCMTK as dcmqi brings it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import highdicom
import pydicom
import pytest
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from lnq.results.write_seg import write_seg
from lnq.results.write_sr import write_sr

NAMES = {
    "volume_mm3": (codes.SCT.Volume, "mm3"),
    "short_axis_mm": (codes.SCT.ShortAxis, "mm"),
    "long_axis_mm": (codes.SCT.LongAxis, "mm"),
    "diameter_mm": (codes.IBSI.Maximum3DDiameterOfAMesh, "mm"),
    "mean_hu": (codes.DCM.AttenuationCoefficient, "[hnsf'U]"),
    "mean_probability": (codes.DCM.FractionalProbabilisticSegmentation, "1"),
}


def report(path: Path) -> highdicom.sr.MeasurementReport:
    return highdicom.sr.srread(path).content


@pytest.fixture
def groups(series, tmp_path):
    return report(series.write(write_sr, tmp_path / "sr.dcm")).get_volumetric_roi_measurement_groups()


def measured(group) -> dict[str, float]:
    found = {}
    for column, (name, unit) in NAMES.items():
        (measurement,) = group.get_measurements(name)
        assert (measurement.unit.value, measurement.unit.scheme_designator) == (unit, "UCUM")
        found[column] = measurement.value
    return found


def test_each_node_has_its_measurements_as_in_the_table(groups):
    assert [measured(group) for group in groups] == [
        {"volume_mm3": 712.5, "short_axis_mm": 10.0, "long_axis_mm": 15.8, "diameter_mm": 16.2, "mean_hu": 41.3,
         "mean_probability": 0.912},
        {"volume_mm3": 56.2, "short_axis_mm": 4.0, "long_axis_mm": 5.5, "diameter_mm": 6.8, "mean_hu": -3.0,
         "mean_probability": 0.5},
    ]  # fmt: skip


def test_agreement_is_measured_where_several_networks_were_run(series, groups, tmp_path):
    name = CodedConcept("agreement", "99LNQ", "Share of networks that mark the node")
    assert [group.get_measurements(name) for group in groups] == [[], []]
    agreed = tuple(dataclasses.replace(node, agreement=2 / 3) for node in series.nodes)
    found = report(series.write(write_sr, tmp_path / "agreed.dcm", nodes=agreed))
    for group in found.get_volumetric_roi_measurement_groups():
        (measurement,) = group.get_measurements(name)
        assert (measurement.value, measurement.unit.value) == (0.667, "1")


def test_a_report_with_agreement_keeps_the_standard(series, tmp_path, problems_of):
    agreed = tuple(dataclasses.replace(node, agreement=1.0) for node in series.nodes)
    assert problems_of(series.write(write_sr, tmp_path / "agreed.dcm", nodes=agreed)) == []


def test_how_a_number_was_got_is_said(groups):
    (volume,) = groups[0].get_measurements(codes.SCT.Volume)
    (density,) = groups[0].get_measurements(codes.DCM.AttenuationCoefficient)
    assert volume.method == codes.DCM.SumOfSegmentedVoxelMethodForVolume
    assert density.derivation == codes.SCT.Mean


def test_findings_are_mediastinal_lymph_nodes(groups):
    for group in groups:
        assert (group.finding_type, group.finding_category) == (codes.SCT.LymphNode, codes.SCT.Tissue)
        assert [site.value for site in group.finding_sites] == [codes.SCT.Mediastinum]
    assert [group.finding_sites[0].laterality for group in groups] == [codes.SCT.Left, None]


STATIONS = {  # code of the site, its side, meaning of the station
    "4R": ("127932007", "Right", "Station 4R"),
    "10L": ("53074004", "Left", "Station 10L"),
    "7": ("28330007", None, "Station 7"),
    "5/6": ("62683002", "Left", "Station 5/6"),
    "uncertain": ("72410000", "Left", "Uncertain"),
}


@pytest.mark.parametrize("station", STATIONS)
def test_a_station_is_the_site_and_an_evaluation(series, tmp_path, problems_of, station):
    side = {"7": "middle"}.get(station, "left")
    nodes = tuple(dataclasses.replace(node, station=station, side=side) for node in series.nodes)
    path = series.write(write_sr, tmp_path / "station.dcm", nodes=nodes)
    site, laterality, meaning = STATIONS[station]
    for group in report(path).get_volumetric_roi_measurement_groups():
        (found,) = group.finding_sites
        assert found.value.value == site and found.value.scheme_designator == "SCT"
        assert (found.laterality.meaning if found.laterality else None) == laterality
        (evaluation,) = group.get_qualitative_evaluations(CodedConcept("station", "99LNQ", "Station"))
        assert evaluation.value.meaning == meaning and evaluation.value.value == station
    assert problems_of(path) == []


def test_groups_and_segments_are_the_same_nodes(series, groups, tmp_path):
    """Though the report was written without the SEG object."""
    seg = highdicom.seg.segread(series.write(write_seg, tmp_path / "seg.dcm"))
    for number, group in enumerate(groups, start=1):
        segment = seg.get_segment_description(number)
        assert (group.tracking_identifier, group.tracking_uid) == (segment.tracking_id, segment.tracking_uid)
        reference = group.referenced_segment
        (item,) = (item for item in reference if item.name == codes.DCM.ReferencedSegment)
        assert item.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert item.referenced_sop_class_uid == seg.SOPClassUID
        assert item.referenced_segment_numbers == [number]
        assert reference.source_series_for_segmentation.value == pydicom.dcmread(series.slices[0]).SeriesInstanceUID


def test_centroid_is_a_point_in_the_patient(series, groups):
    frame = pydicom.dcmread(series.slices[0]).FrameOfReferenceUID
    for group, place in zip(groups, ([-12.3, 5.7, -300.1], [8.0, 10.0, -290.0]), strict=True):
        (point,) = (item for item in group[0].ContentSequence if item.name == codes.DCM.Center)
        assert point.graphic_type.value == "POINT"
        assert point.value[0].tolist() == pytest.approx(place, abs=1e-4)
        assert point.ReferencedFrameOfReferenceUID == frame


def test_observer_is_the_algorithm(series, tmp_path):
    path = series.write(write_sr, tmp_path / "sr.dcm")
    (observer,) = report(path).get_observer_contexts(codes.DCM.Device)
    device = observer.observer_identifying_attributes
    assert (device.name, device.model_name, device.serial_number) == ("lnq", "lnq", "0123456789abcdef" * 4)
    assert device.uid.startswith("2.25.")
    dataset = pydicom.dcmread(path)
    assert (dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )


def test_other_numbers_are_another_report(series, tmp_path):
    first = pydicom.dcmread(series.write(write_sr, tmp_path / "first.dcm"))
    turned = tuple(type(n)(**(vars(n) | {"mean_hu": n.mean_hu + 1})) for n in series.nodes)
    second = pydicom.dcmread(series.write(write_sr, tmp_path / "second.dcm", nodes=turned))
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_report_on_no_node_says_so(series, tmp_path):
    path = series.without_nodes().write(write_sr, tmp_path / "sr.dcm")
    assert report(path).get_volumetric_roi_measurement_groups() == []
    (container,) = highdicom.sr.utils.find_content_items(
        report(path)[0], name=CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
    )
    summary, comment = container.ContentSequence
    assert summary.name == codes.DCM.CADProcessingAndFindingsSummary
    assert summary.value == codes.DCM.AllAlgorithmsSucceededWithoutFindings
    assert comment.TextValue == "lnq 0.1.0 found no mediastinal lymph node"


@pytest.mark.parametrize("empty", [False, True], ids=["nodes", "no node"])
def test_dcmqi_reads_the_report(series, tmp_path, empty):
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed: pip install -r requirements-dev.txt")
    path = (series.without_nodes() if empty else series).write(write_sr, tmp_path / "sr.dcm")
    program, told = Path(dcmqi.__file__).parent / "bin" / "tid1500reader", tmp_path / "sr.json"
    subprocess.run([program, "--inputDICOM", path, "--outputMetadata", told], check=True, capture_output=True)
    groups = json.loads(told.read_text())["Measurements"]
    assert [(group["TrackingIdentifier"], group["ReferencedSegment"]) for group in groups] == (
        [] if empty else [("Lymph node 1", 1), ("Lymph node 2", 2)]
    )
    for group in groups:
        values = [float(item["value"]) for item in group["measurementItems"]]
        assert values == pytest.approx(
            [712.5, 10.0, 15.8, 16.2, 41.3, 0.912] if group is groups[0] else [56.2, 4.0, 5.5, 6.8, -3.0, 0.5]
        )
