"""The comparison of a reader's clicks: its sums, and a whole run in small."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from benchmarks.simulated_reader import ARMS, gap_closed, main


def test_the_gap_goes_from_no_clicks_to_complete_labels() -> None:
    dice = {"none": 0.4, "random": 0.3, "proposed": 0.5, "complete": 0.6}
    assert gap_closed(dice, "proposed") == pytest.approx(0.5)
    assert gap_closed(dice, "random") == pytest.approx(-0.5)
    assert math.isnan(gap_closed({"none": 0.4, "proposed": 0.5, "complete": 0.4}, "proposed"))


@pytest.mark.slow
def test_a_run_in_small_compares_all_kinds_of_labels(tmp_path: Path) -> None:
    arguments = [
        "-o", str(tmp_path / "out"), "--size", "tiny", "--cases", "2", "--reviewed", "1", "--seeds", "0",
        "--epochs", "1", "--epochs-after", "1",
    ]  # fmt: skip
    assert main(arguments) == 0
    with open(tmp_path / "out" / "simulated-reader.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["labels"] for row in rows] == list(ARMS)
    text = (tmp_path / "out" / "simulated-reader.md").read_text()
    assert "-o OUT --size tiny --cases 2 --reviewed 1 --seeds 0 --epochs 1 --epochs-after 1" in text
    assert str(tmp_path) not in text
    assert main(arguments) == 0  # again: all is there
