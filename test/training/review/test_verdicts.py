"""What becomes of candidates: votes counted by hand, and the label of three states."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.reviews import TIME, decide, maps_of, write_candidates

from lnq.image.volume import Volume, make_affine
from training.data.sources.states import BACKGROUND, NODE, UNKNOWN
from training.review.candidates import Found
from training.review.decisions import AddedNode, Decisions
from training.review.verdicts import tally, three_states

PLACES_MM = [(-14.0, -14.0, 15.0), (14.0, 14.0, 45.0), (14.0, -14.0, 45.0)]


@pytest.fixture
def ct() -> Volume:
    return Volume(np.zeros((20, 30, 30), np.int16), make_affine((3.0, 2.0, 2.0), (-30.0, -30.0, 0.0)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "case"


@pytest.fixture
def found(folder: Path, ct: Volume) -> Found:
    return write_candidates(folder, ct, PLACES_MM, 5.0)


def label(
    found: Found, decisions: list[Decisions], full_from_mm: float = 5.0, before: np.ndarray | None = None
) -> np.ndarray:
    before = np.full(found.numbers.shape, UNKNOWN, np.uint8) if before is None else before
    outcome = tally(decisions, len(found.candidates))
    return three_states(before, decisions, outcome, maps_of(found), full_from_mm)


def test_the_majority_of_the_sure_decides(folder: Path, found: Found) -> None:
    readers = [
        decide(folder, {1: "node", 2: "node", 3: "unsure"}, "a"),
        decide(folder, {1: "node", 2: "no node"}, "b"),
        decide(folder, {1: "no node", 2: "unsure"}, "c"),
    ]
    outcome = tally(readers, 3)
    assert [(vote.what, vote.outcome, vote.agreed) for vote in outcome.votes] == [
        ("candidate 1", "node", False),
        ("candidate 2", "unknown", False),
        ("candidate 3", "unknown", True),
    ]
    assert outcome.votes[0].by_reader == {"a": "node", "b": "node", "c": "no node"}
    assert outcome.rejected == "" and outcome.complete_from_mm is None


def test_one_reader_settles_what_is_judged_and_nothing_else(folder: Path, found: Found) -> None:
    state = label(found, [decide(folder, {1: "node", 2: "no node"})])
    numbers = found.numbers.array
    assert (state[numbers == 1] == NODE).all() and (state[numbers == 2] == BACKGROUND).all()
    assert (state[(numbers != 1) & (numbers != 2)] == UNKNOWN).all()


def test_a_moved_outline_is_grown_in_the_probability(folder: Path, found: Found) -> None:
    state = label(found, [decide(folder, {1: "node"}, thresholds={1: 0.25})])
    near = found.probability.array >= 0.25
    near[10:] = False  # the other two lie above
    assert (state == NODE).sum() == near.sum() > (found.numbers.array == 1).sum()
    np.testing.assert_array_equal(state == NODE, near)


def test_an_annotation_stays_whatever_is_said(folder: Path, found: Found) -> None:
    before = np.full(found.numbers.shape, UNKNOWN, np.uint8)
    before[found.numbers.array == 1] = NODE
    assert (label(found, [decide(folder, {1: "no node"})], before=before) == before).all()


def test_added_nodes_are_grown_or_balls(folder: Path, found: Found) -> None:
    added = (AddedNode(PLACES_MM[1], 0.5, None, TIME), AddedNode((-14.0, 14.0, 30.0), None, 4.0, TIME))
    state = label(found, [decide(folder, {}, added=added)])
    index = np.indices(state.shape).reshape(3, -1)
    position = found.numbers.affine[:3, :3] @ index + found.numbers.affine[:3, 3:]
    inside = np.linalg.norm(position - np.array([[-14.0], [14.0], [30.0]]), axis=0).reshape(state.shape) <= 4.0
    np.testing.assert_array_equal(state == NODE, inside | (found.numbers.array == 2))
    with pytest.raises(ValueError, match=r"^Nothing grows at 28, 28, 0 mm \(L, P, S\) from a probability of 0.5$"):
        label(found, [decide(folder, {}, added=(AddedNode((28.0, 28.0, 0.0), 0.5, None, TIME),))])


def test_a_statement_of_small_nodes_makes_the_rest_background(folder: Path, found: Found) -> None:
    said = decide(folder, {1: "node", 2: "no node", 3: "unsure"}, complete_from_mm=5.0)
    state = label(found, [said])
    numbers = found.numbers.array
    assert (state[numbers == 3] == UNKNOWN).all() and (state[numbers == 0] == BACKGROUND).all()
    assert (label(found, [said], full_from_mm=4.9)[numbers == 0] == UNKNOWN).all()


def test_a_candidate_that_nobody_judged_stays_unknown_whatever_is_stated(folder: Path, found: Found) -> None:
    state = label(found, [decide(folder, {1: "node"}, complete_from_mm=5.0)])
    numbers = found.numbers.array
    assert (state[(numbers == 2) | (numbers == 3)] == UNKNOWN).all() and (state[numbers == 0] == BACKGROUND).all()


def test_a_threshold_above_the_highest_probability_leaves_the_highest(folder: Path, found: Found) -> None:
    fainter = dataclasses.replace(found, probability=found.probability.with_array(0.75 * found.probability.array))
    state = label(fainter, [decide(folder, {1: "node"}, thresholds={1: 0.9})])
    np.testing.assert_array_equal(np.unique(fainter.probability.array[state == NODE]), [0.75])


def test_statements_count_where_all_readers_make_one(folder: Path, found: Found) -> None:
    said = [decide(folder, {}, reader, complete_from_mm=size) for reader, size in (("a", 5.0), ("b", 8.0))]
    assert tally(said, 3).complete_from_mm == 8.0
    assert tally([*said, decide(folder, {}, "c")], 3).complete_from_mm is None


def test_a_ct_is_rejected_by_half_of_its_readers(folder: Path, found: Found) -> None:
    no, yes = decide(folder, {}, "a", rejected="moved"), decide(folder, {}, "b")
    assert tally([no], 3).rejected == "moved (a)" == tally([no, yes], 3).rejected
    assert tally([no, yes, decide(folder, {}, "c")], 3).rejected == ""
