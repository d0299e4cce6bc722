"""A case's record goes to the manifest and comes back; its keys and their order are the format."""

from __future__ import annotations

import dataclasses
import json

import pytest
from helpers.records import DONE_RECORD, changed, failed, scored
from hypothesis import given
from hypothesis import strategies as st

from lnq.inference.backends import load_model
from lnq.results.case_record import CaseRecord, Findings, ResultOptions, TruthScores, Versions

TEXT = st.text(max_size=8)
FLOAT = st.floats(0, 1e6)
OPTIONS = st.builds(
    ResultOptions, st.sampled_from(["mha", "rtstruct"]), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)
SCORES = st.none() | st.builds(TruthScores, FLOAT, st.none() | FLOAT, TEXT)
STATE = st.tuples(st.integers(0), st.integers(0), st.integers(0))
FINDINGS = st.builds(Findings, FLOAT, OPTIONS, st.integers(0), TEXT, STATE, SCORES)
VERSIONS = st.builds(Versions, TEXT, TEXT, TEXT, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT)
HEAD = (TEXT, TEXT, st.none() | TEXT, st.none() | TEXT)
TAIL = (st.none() | TEXT, st.none() | TEXT, st.lists(TEXT, max_size=2).map(tuple), st.none() | VERSIONS)
RECORDS = st.one_of(
    st.builds(CaseRecord, *HEAD, st.just("done"), *TAIL, FINDINGS, st.none() | FLOAT),
    st.builds(CaseRecord, *HEAD, st.sampled_from(["failed", "skipped"]), *TAIL, st.none(), st.none() | FLOAT),
)


@given(RECORDS)
def test_a_line_of_the_manifest_comes_back_equal(record):
    assert CaseRecord.from_plain(json.loads(record.line())) == record


def test_the_keys_of_each_kind_of_line_are_these():
    first = ["case", "id", "input", "series_uid", "status", "error", "mask", "warnings"]
    last = ["options", "nodes", "input_sha256", "input_state", "left_out", "mask_sha256", "seconds"]
    assert list(DONE_RECORD.plain()) == [*first, "versions", "volume_mm3", *last]
    scores = ["dice", "assd_mm", "truth_sha256"]
    with_truth = changed(scores=scored(0.5, None))
    assert list(with_truth.plain()) == [*first, "versions", "volume_mm3", *scores, *last]
    assert with_truth.plain()["assd_mm"] is None
    ended = dataclasses.replace(failed("a", "It is cut."), versions=DONE_RECORD.versions)
    assert list(ended.plain()) == [*first, "seconds", "versions"]
    assert list(failed("a", "It is a scout.", "skipped", None).plain()) == first
    assert "mirror" not in DONE_RECORD.plain()["versions"]


def test_versions_name_the_members_that_were_run(tiny_bundle, tiny_ensemble):
    single, three, two, first = (
        Versions.of(load_model(bundle, "cpu", threads=1, members=members))
        for bundle, members in ((tiny_bundle, None), (tiny_ensemble, None), (tiny_ensemble, 2), (tiny_ensemble, 1))
    )
    assert (three.members, two.members, first.members, single.members) == ("3", "2", None, None)
    assert "members" not in single.plain() and three.plain()["members"] == "3"
    assert first.weights == single.weights
    assert len({one.weights for one in (three, two, first)}) == len({one.model for one in (three, two, first)}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"case": None},
        {"status": 3},
        {"error": ["a"]},
        {"status": "failed"},  # with what a finished case has
        {"volume_mm3": None, "colour": "red"},  # of another version
        {"options": {"format": "mha", "colour": "red"}},
        {"versions": {"lnq": "0.0.1"}},
    ],
)
def test_what_is_no_record_of_this_version_is_refused(change):
    with pytest.raises((ValueError, TypeError)):
        CaseRecord.from_plain(DONE_RECORD.plain() | change)


def test_a_case_that_is_done_has_findings():
    plain = {key: value for key, value in failed("a", "It is cut.").plain().items() if key != "seconds"}
    with pytest.raises(ValueError, match="status 'done' does not fit what was found"):
        CaseRecord.from_plain(plain | {"status": "done"})
