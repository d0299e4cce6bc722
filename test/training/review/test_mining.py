"""Decisions that need no reader: which candidates they accept, and that all records say that nobody saw them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lnq.plain import to_plain
from lnq.version import __version__
from training.review.decisions import read_decisions, refuse_others
from training.review.mining import SURE_AND_ALIKE, Mining, mine_labels, with_score


def line(score: float, agreement: float, short_axis_mm: float) -> dict[str, Any]:
    return {"score": score, "agreement": agreement, "short_axis_mm": short_axis_mm}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    folder.mkdir()
    candidates = [
        line(0.95, 1.0, 5.0),
        line(0.94, 1.0, 9.0),
        line(0.99, 0.75, 9.0),
        line(0.99, 1.0, 4.9),
        line(1, 1, 30),
    ]
    content = {
        "case": "case",
        "ct": "c" * 64,
        "made_from": {"weights": ["w" * 64]},
        "candidates": candidates,
        "starts": [],
    }
    (folder / "candidates.json").write_text(json.dumps(content))
    return folder


def test_what_networks_mark_surely_and_alike_is_a_node_and_all_else_is_not_judged(folder: Path) -> None:
    decisions = mine_labels(folder, Mining(0.95))
    assert [(one.candidate, one.verdict, one.threshold) for one in decisions.judged] == [
        (1, "node", None),
        (5, "node", None),
    ]
    assert (decisions.added, decisions.rejected, decisions.complete_from_mm) == ((), None, None)
    assert [one.candidate for one in mine_labels(folder, Mining(0.9, 0.7, 6.0)).judged] == [2, 3, 5]


def test_as_sure_as_of_half_of_the_annotated_nodes_is_sure_enough() -> None:
    assert with_score(SURE_AND_ALIKE, [0.2, 0.9, 0.4]) == Mining(0.4)
    assert with_score(Mining(0.7), [0.2]) == Mining(0.7) and with_score(Mining(0.0), []) == Mining(0.0)
    with pytest.raises(ValueError, match=r"^No node is annotated that would tell .* enough: give --mining\.score$"):
        with_score(SURE_AND_ALIKE, [])


def test_the_readers_name_says_that_nobody_saw_them(folder: Path) -> None:
    rules = "score 0.95, agreement 1, 5 mm and more"
    assert mine_labels(folder, Mining(0.95)).reader == f"mined by lnq {__version__}, seen by nobody ({rules})"


def test_they_are_a_file_as_a_reader_saves_it(folder: Path) -> None:
    path = folder.parent / "case.mined.decisions.json"
    decisions = mine_labels(folder, Mining(0.95))
    path.write_text(json.dumps(to_plain(decisions)))
    assert read_decisions(path) == decisions
    refuse_others(decisions, path, folder)


def test_without_candidates_there_is_nothing_to_decide(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no list of candidates: run training.propose first$"):
        mine_labels(tmp_path, Mining(0.95))
