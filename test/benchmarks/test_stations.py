"""The benchmark of stations: its table by hand, and a run on a phantom."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.stations import Told, lines_of_stations, main


def test_the_table_counts_right_and_uncertain_by_hand():
    told = [
        Told("a", "7", "7"),
        Told("a", "7", "8"),
        Told("b", "7", "uncertain"),
        Told("b", "4R", "4R"),
        Told("b", "8", None),
    ]
    assert lines_of_stations(told)[2:-1] == [
        "| 4R | 1 | 100 % | 0 % |",
        "| 7 | 3 | 50 % | 33 % |",
        "| all | 4 | 67 % | 25 % |",
    ]


@pytest.mark.slow
def test_a_phantom_is_looked_at(tmp_path: Path, capsys):
    from phantom.command import main as make

    make([str(tmp_path / "ph"), "--count", "1", "--first-seed", "6000", "--size", "128"])
    assert main([str(tmp_path / "ph"), "-o", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "stations.csv").open()))
    assert rows and {row["said"] for row in rows} - {"", "uncertain"}
    assert "says nothing about patients" in (tmp_path / "out" / "stations.md").read_text()


def test_a_folder_without_phantoms_is_said(tmp_path: Path, capsys):
    assert main([str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("holds no phantom")
