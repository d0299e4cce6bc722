"""Tracks pass from one CT to the next by the rules, and are read from reports."""

from __future__ import annotations

import shutil

import pydicom
import pytest
from helpers.rows import row, tracks

from lnq.errors import StartError
from lnq.followup.match import Match
from lnq.followup.time_point import read_time_point
from lnq.followup.tracking import follow, own_tracks, reported_tracks
from lnq.results.dicom_common import Track

EARLIER = [row(1, 9, 10, 500.0), row(2, 9, 10, 900.0), row(3, 9, 10, 700.0), row(7, 9, 10, 100.0)]
LATER = [row(number, 9, 10, volume) for number, volume in ((1, 50.0), (2, 400.0), (3, 300.0), (4, 20.0))]


def test_tracks_pass_on_by_the_rules():
    """The largest of two that merged passes its track on; the largest part of a split one gets it."""
    matches = [Match((1, 2), (1,)), Match((3,), (2, 3)), Match((), (4,)), Match((7,), ())]
    found = follow(matches, (EARLIER, LATER), tracks("a", 1, 2, 3, 7), tracks("b", 1, 2, 3, 4))
    assert found == {
        1: Track("Lymph node 2", "a2"),
        2: Track("Lymph node 3", "a3"),
        3: Track("Lymph node 8", "b3"),
        4: Track("Lymph node 9", "b4"),
    }


def test_an_identifier_is_never_used_again():
    used = ("Lymph node 12", "Left hilar mass")
    found = follow([Match((), (4,))], (EARLIER, LATER), tracks("a", 1), tracks("b", 4), used)
    assert found == {4: Track("Lymph node 13", "b4")}


def test_own_tracks_are_those_of_the_objects(dicom_results):
    for folder in dicom_results():
        point = read_time_point(folder)
        seg = pydicom.dcmread(folder / "segments.dcm")
        own = own_tracks(point)
        assert [own[s.SegmentNumber].uid for s in seg.SegmentSequence] == [s.TrackingUID for s in seg.SegmentSequence]
        assert reported_tracks(point, None) == (own, ("Lymph node 1", "Lymph node 2", "Lymph node 3"))


def test_nodes_of_image_files_have_tracks_too(image_results):
    first, second = (own_tracks(read_time_point(folder)) for folder in image_results)
    uids = [track.uid for track in (*first.values(), *second.values())]
    assert len(set(uids)) == 6 and all(uid.startswith("2.25.") for uid in uids)
    assert first == own_tracks(read_time_point(image_results[0]))


def edited(report, path, edit) -> None:
    dataset = pydicom.dcmread(report)
    (measurements,) = [c for c in dataset.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "126010"]
    for number, group in enumerate(measurements.ContentSequence, start=1):
        for item in group.ContentSequence:
            edit(number, item, item.ConceptNameCodeSequence[0].CodeValue)
    dataset.save_as(path)


def test_tracks_of_another_report_are_found_by_place(dicom_results, tmp_path):
    """Its segments are numbered otherwise, as another program would."""
    folder, _ = dicom_results()
    point = read_time_point(folder)

    def edit(number, item, code):
        if code == "112040":
            item.UID = f"1.2.{number}"
        if code == "112039":
            item.TextValue = f"Target {number}"
        if code == "121191":
            item.ReferencedSOPSequence[0].ReferencedSegmentNumber = 9

    edited(folder / "nodes.dcm", tmp_path / "other.dcm", edit)
    found, used = reported_tracks(point, tmp_path / "other.dcm")
    assert used == ("Target 1", "Target 2", "Target 3")
    assert found == {number: Track(f"Target {number}", f"1.2.{number}") for number in (1, 2, 3)}
    shutil.copy(tmp_path / "other.dcm", folder / "nodes.dcm")
    assert reported_tracks(point, None) == (found, used)


def test_a_report_on_other_nodes_is_refused(dicom_results, tmp_path):
    folder, _ = dicom_results()
    point = read_time_point(folder)

    def edit(number, item, code):
        if code == "111010":
            item.GraphicData = [500.0, 0.0, 0.0]

    edited(folder / "nodes.dcm", tmp_path / "other.dcm", edit)
    with pytest.raises(StartError, match=f"^{tmp_path / 'other.dcm'} names no node of first$"):
        reported_tracks(point, tmp_path / "other.dcm")


def test_a_node_that_the_report_does_not_name_gets_a_name_that_it_does_not_use(dicom_results, tmp_path):
    """It calls node 1 "Lymph node 2" and says nothing of node 2."""
    folder, _ = dicom_results()
    point = read_time_point(folder)

    def edit(number, item, code):
        if code == "112039":
            item.TextValue = {1: "Lymph node 2", 2: "elsewhere", 3: "Lymph node 7"}[number]
        if code == "111010" and number == 2:
            item.GraphicData = [500.0, 0.0, 0.0]

    edited(folder / "nodes.dcm", tmp_path / "other.dcm", edit)
    found, used = reported_tracks(point, tmp_path / "other.dcm")
    assert {number: track.identifier for number, track in found.items()} == {
        1: "Lymph node 2", 2: "Lymph node 8", 3: "Lymph node 7",
    }  # fmt: skip
    assert used == ("Lymph node 2", "elsewhere", "Lymph node 7")


def test_a_report_on_another_series_is_refused(dicom_results):
    first, second = dicom_results()
    sentence = f"{second / 'nodes.dcm'} is on another series than first"
    with pytest.raises(StartError, match=f"^{sentence}$"):
        reported_tracks(read_time_point(first), second / "nodes.dcm")


def test_nodes_of_a_series_that_no_object_can_refer_to_have_tracks_too(dicom_results):
    point = read_time_point(dicom_results()[0])
    del point.slices[0].header.SOPClassUID
    assert [track.uid[:5] for track in own_tracks(point).values()] == ["2.25."] * 3
