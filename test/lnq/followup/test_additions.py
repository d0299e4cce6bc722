"""Reports on followed nodes are read back through highdicom, and keep the standard."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("highdicom")

import highdicom
from helpers.rows import CHANGES, FOLLOW_UP
from highdicom.sr import CodedConcept

from lnq.followup.additions import additions_of
from lnq.followup.change import Size
from lnq.results.dicom_common import Track
from lnq.results.write_seg import write_seg
from lnq.results.write_sr import write_sr

TRACKS = (Track("Lymph node 2", "1.2"), Track("Lymph node 4", "1.3"))
CHANGE = CodedConcept("change", "99LNQ", "Change since the earlier CT")
UIDS = ("1.2.3.2", "1.2.3.4")
EARLIER = {  # the tracks of the earlier CT: 2 and 3 merged into 2, and 1 is gone
    f"1.2.3.{number}": (Track(f"Lymph node {number}", f"1.2.3.{number}"), Size(short_mm, short_mm + 2, 100.0 * number))
    for number, short_mm in ((1, 8.0), (2, 15.0), (3, 6.0))
}


@pytest.fixture
def written(series, tmp_path):
    """The report on two nodes, one of which merged and one is new, while a third is gone."""
    tracks = tuple(Track(track.identifier, uid) for track, uid in zip(TRACKS, UIDS, strict=True))
    follow_up = dataclasses.replace(FOLLOW_UP, tracks=tracks)
    path = tmp_path / "followed.dcm"
    series.write(write_sr, path, tracks=tracks, additions=additions_of(follow_up, EARLIER))
    series.write(write_seg, tmp_path / "seg.dcm", tracks=tracks)
    return path


def test_nodes_say_what_became_of_them(written):
    groups = highdicom.sr.srread(written).content.get_volumetric_roi_measurement_groups()
    assert [(g.tracking_identifier, g.tracking_uid) for g in groups] == [
        ("Lymph node 2", "1.2.3.2"), ("Lymph node 4", "1.2.3.4"),
    ]  # fmt: skip
    assert [g.get_qualitative_evaluations(CHANGE)[0].value.meaning for g in groups] == ["Merged", "New"]
    before = CodedConcept("earlier-short", "99LNQ", "Short axis in the earlier CT")
    assert [[m.value for m in g.get_measurements(before)] for g in groups] == [[15.0], []]


def test_nodes_without_a_segment_and_the_sum_have_groups_of_their_own(written):
    gone, merged, targets = highdicom.sr.srread(written).content.get_image_measurement_groups()
    volume = CodedConcept("earlier-volume", "99LNQ", "Volume in the earlier CT")
    for group, number, state in ((gone, 1, "gone"), (merged, 3, "merged")):
        assert (group.tracking_identifier, group.tracking_uid) == (f"Lymph node {number}", f"1.2.3.{number}")
        assert group.get_qualitative_evaluations(CHANGE)[0].value.value == state
        assert group.get_measurements(volume)[0].value == 100.0 * number
    sums = ("sum-first", "sum-now")
    assert [targets.get_measurements(CodedConcept(code, "99LNQ", "-"))[0].value for code in sums] == [15.0, 18.0]


def test_codes_are_short_enough_for_any_reader(written):
    def codes(item):
        for child in item.get("ContentSequence", ()):
            yield from (code for code in child.ConceptNameCodeSequence)
            yield from codes(child)

    assert all("CodeValue" in code for code in codes(highdicom.sr.srread(written)))


def test_segments_have_the_same_tracks(written):
    seg = highdicom.seg.segread(written.with_name("seg.dcm"))
    assert [(s.tracking_id, s.tracking_uid, s.segment_label) for s in seg.SegmentSequence] == [
        ("Lymph node 2", "1.2.3.2", "Lymph node 2"), ("Lymph node 4", "1.2.3.4", "Lymph node 4"),
    ]  # fmt: skip
    assert seg.SeriesDescription.startswith("Lymph nodes followed by lnq ") and seg.SeriesNumber == 9111


def test_objects_of_followed_nodes_are_others(written, series, tmp_path):
    plain = highdicom.sr.srread(series.write(write_sr, tmp_path / "plain.dcm"))
    followed = highdicom.sr.srread(written)
    assert plain.SOPInstanceUID != followed.SOPInstanceUID and plain.SeriesInstanceUID != followed.SeriesInstanceUID


def test_the_report_keeps_the_standard(written, problems_of):
    assert problems_of(written) == [] and problems_of(written.with_name("seg.dcm")) == []


def test_a_report_on_nothing_but_a_node_that_is_gone(make_series, tmp_path, problems_of):
    series = make_series()
    follow_up = dataclasses.replace(FOLLOW_UP, changes=CHANGES[2:], tracks=(), targets=(), sums=())
    gone_one = {"1.2.3.1": EARLIER["1.2.3.1"]}
    path = tmp_path / "gone.dcm"
    nothing = dataclasses.replace(series, labels=series.labels.with_array(series.labels.array * 0), nodes=())
    nothing.write(write_sr, path, tracks=(), additions=additions_of(follow_up, gone_one))
    (gone,) = highdicom.sr.srread(path).content.get_image_measurement_groups()
    assert gone.tracking_uid == "1.2.3.1" and problems_of(path) == []
    assert highdicom.sr.srread(path).SeriesNumber == 9112
