"""Objects of this program are read back; damaged and foreign ones are refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from helpers.followups import the_case

from lnq.errors import ImageError, StartError
from lnq.followup.read_objects import labels_on_slices, read_sr
from lnq.followup.time_point import read_time_point


@pytest.fixture
def first(dicom_results):
    return read_time_point(dicom_results()[0])


def test_segments_are_the_nodes(first):
    labels = labels_on_slices(first.folder / "segments.dcm", first.slices)
    assert labels.dtype == np.int16 and np.array_equal(labels, first.labels.array)


def test_segments_of_other_slices_are_refused(first, tmp_path):
    other = the_case(tmp_path / "second").open(tmp_path).slices
    with pytest.raises(ImageError, match="^segments.dcm is of other slices than its CT$"):
        labels_on_slices(first.folder / "segments.dcm", other)


def test_damaged_segments_are_refused(first):
    path = first.folder / "segments.dcm"
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ImageError, match="^segments.dcm is damaged$"):
        labels_on_slices(path, first.slices)


def test_a_report_tells_tracks_centres_and_segments(first):
    report = read_sr(first.folder / "nodes.dcm")
    assert str(first.slices[0].header.SeriesInstanceUID) in report.series
    found = report.nodes
    assert [one.track.identifier for one in found] == ["Lymph node 1", "Lymph node 2", "Lymph node 3"]
    assert [one.segment for one in found] == [1, 2, 3] and len({one.track.uid for one in found}) == 3
    centres = np.array([one.centre_mm for one in found])
    assert np.allclose(centres, [(row.l_mm, row.p_mm, row.s_mm) for row in first.rows], atol=1e-4)


def test_what_is_no_report_is_refused(first, tmp_path):
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    with pytest.raises(StartError, match=f"^{text} cannot be read as a DICOM structured report$"):
        read_sr(text)
    seg = first.folder / "segments.dcm"
    with pytest.raises(StartError, match=f"^{seg} is no DICOM structured report$"):
        read_sr(seg)


def test_a_group_without_a_uid_is_passed_over(first, tmp_path):
    report = pydicom.dcmread(first.folder / "nodes.dcm")
    (measurements,) = [c for c in report.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "126010"]
    group = measurements.ContentSequence[0]
    group.ContentSequence = [c for c in group.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue != "112040"]
    report.save_as(tmp_path / "less.dcm")
    assert [one.segment for one in read_sr(tmp_path / "less.dcm").nodes] == [2, 3]


def edited_groups(report, edit):
    dataset = pydicom.dcmread(report)
    (measurements,) = [c for c in dataset.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == "126010"]
    for group in measurements.ContentSequence:
        for item in group.ContentSequence:
            edit(item, item.ConceptNameCodeSequence[0].CodeValue)
    dataset.save_as(report)


def test_a_group_of_several_segments_is_of_no_one_node(first):
    def edit(item, code):
        if code == "121191":
            item.ReferencedSOPSequence[0].ReferencedSegmentNumber = [1, 2]

    edited_groups(first.folder / "nodes.dcm", edit)
    assert [one.segment for one in read_sr(first.folder / "nodes.dcm").nodes] == [None] * 3


def test_one_uid_for_two_nodes_is_refused(first):
    def edit(item, code):
        if code == "112040":
            item.UID = "1.2.3"

    path = first.folder / "nodes.dcm"
    edited_groups(path, edit)
    with pytest.raises(StartError, match=f"^{path} gives one tracking UID to two nodes$"):
        read_sr(path)


@pytest.mark.parametrize("name", ["Gr\u00f6\u00dfe", "x" * 65, "back\\slash", ""])
def test_a_name_that_not_every_object_can_hold_gives_way_to_the_uid(first, name):
    def edit(item, code):
        if code == "112039":
            item.TextValue = name

    edited_groups(first.folder / "nodes.dcm", edit)
    assert all(one.track.identifier == one.track.uid for one in read_sr(first.folder / "nodes.dcm").nodes)
