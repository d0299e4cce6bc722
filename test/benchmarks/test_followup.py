"""The benchmark of follow-ups: what it calls right by hand, and a run on a pair of phantoms."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers.followups import balls

from benchmarks.followup import ToldFate, identities, judge, lines_of, main
from lnq.followup.register import Alignment
from lnq.image.volume import Volume, make_affine

GRID = Volume(np.zeros((60, 60, 60), np.uint8), make_affine((2.0, 2.0, 2.0), (-60.0, -60.0, -60.0)))
STILL = Alignment(np.eye(4), 1.0)


def nodes(**centres: tuple[float, float, float]) -> Volume:
    """Balls of 6 mm, by their number."""
    labels = np.zeros(GRID.shape, np.int32)
    for name, centre in centres.items():
        labels[balls(GRID, (centre, 6)).array > 0] = int(name[1:])
    return GRID.with_array(labels)


def test_what_is_right_by_hand():
    """1 stays, 2 is gone, 3 is new; 4 and 5, apart by more than the matching bridges, exchange places: both wrong."""
    first = nodes(n1=(0, 0, 0), n2=(30, 0, 0), n4=(0, 40, 0), n5=(0, -40, 0))
    second = nodes(n1=(2, 0, 0), n3=(0, 0, 40), n4=(0, -40, 0), n5=(0, 40, 0))
    told = judge(1, "true", (first, second), (first, second), STILL)
    assert {(one.later, one.kind, one.right) for one in told} == {
        (False, "same", True), (True, "same", True), (False, "same", False), (True, "same", False),
        (False, "gone", True), (True, "new", True),
    }  # fmt: skip
    assert len(told) == 8 and sum(one.right for one in told) == 4


def test_small_nodes_and_components_of_nothing_do_not_count():
    truth = GRID.with_array(balls(GRID, ((0, 0, 0), 3)).array.astype(np.int32))
    found = nodes(n1=(30, 0, 0))
    assert judge(1, "true", (truth, truth), (truth, truth), STILL) == []
    assert identities(found, truth) == {1: set()}
    assert judge(1, "found", (found, found), (truth, truth), STILL) == []


def test_the_table_by_hand():
    told = [ToldFate(1, "true", False, 9.0, "same", right) for right in (True, True, False)]
    told += [ToldFate(1, "found", True, 9.0, "new", True)]
    assert lines_of(told)[2:-1] == [
        "| same | 2 of 3 (66.7 %) | |",
        "| merged or split | | |",
        "| new | | 1 of 1 (100.0 %) |",
        "| gone | | |",
        "| all | 2 of 3 (66.7 %) | 1 of 1 (100.0 %) |",
    ]


@pytest.mark.slow
def test_a_pair_is_looked_at(tmp_path: Path):
    assert main(["-o", str(tmp_path), "--count", "1", "--first-seed", "7000", "--size", "128"]) == 0
    rows = list(csv.DictReader((tmp_path / "followup.csv").open()))
    assert {row["masks"] for row in rows} == {"true"} and all(float(row["short_axis_mm"]) >= 8 for row in rows)
    assert "says nothing about patients" in (tmp_path / "followup.md").read_text()


def test_a_count_of_nothing_is_refused(tmp_path: Path, capsys):
    assert main(["-o", str(tmp_path), "--count", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("--count must be at least 1, not 0")
