from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lnq.image.itk import read_volume
from lnq.image.volume import Volume, make_affine
from lnq.nodes.measure import Node
from training.review.candidates import Candidate, Found
from training.review.write import CandidateRow, list_of, read_found, row_of, write_found, write_table


def candidate(number: int, worth: float, height: float | None = 12.34) -> Candidate:
    node = Node(number, 523.64, 9.96, 12.04, 13.0, "below 10 mm", 50.0, 0.4, (1.26, -2.0, 30.04), "left", height)
    return Candidate(node, 0.81234, 0.75, worth, 0.3)


@pytest.fixture
def found() -> Found:
    grid = Volume(np.zeros((3, 4, 5), np.int16), make_affine((2.0, 1.0, 1.0), (5, 6, 7)))
    numbers = grid.with_array(np.arange(60, dtype=np.int16).reshape(3, 4, 5) % 3)
    return Found(
        [candidate(1, 0.9), candidate(2, 0.5, None)],
        numbers,
        grid.with_array(np.full((3, 4, 5), 0.25, np.float32)),
        (slice(0, 3), slice(0, 4), slice(0, 5)),
        [(5.0, 6.0, 7.0), (6.0, 6.0, 7.0)],
        [0.5],
    )


def test_a_candidate_is_rounded(found: Found) -> None:
    assert row_of("a", found.candidates[0]) == CandidateRow(
        "a", 1, 0.9, 0.812, 0.75, 0.3, 10.0, 12.0, 523.6, 1.3, -2.0, 30.0, "left", 12.3
    )


def test_a_case_is_written_whole_and_read_back(tmp_path: Path, found: Found) -> None:
    write_found(tmp_path / "a", list_of("a", found, {"flips": 2}, "0a"), found)
    write_found(tmp_path / "a", list_of("a", found, {"flips": 3}, "0a"), found, b"page")
    content = read_found(tmp_path / "a")
    assert content["made_from"] == {"flips": 3} and content["ct"] == "0a" and content["annotated"] == [0.5]
    assert [row["number"] for row in content["candidates"]] == [1, 2]
    np.testing.assert_array_equal(read_volume(tmp_path / "a" / "candidates.nii.gz").array, found.numbers.array)
    np.testing.assert_allclose(read_volume(tmp_path / "a" / "probability.nii.gz").array, 0.25)
    assert (tmp_path / "a" / "review.html").read_bytes() == b"page"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("content", ["{", "[]", '{"candidates": 3}', '{"candidates": []}'])
def test_a_damaged_list_counts_as_none(tmp_path: Path, content: str) -> None:
    assert read_found(tmp_path) == {}
    (tmp_path / "candidates.json").write_text(content)
    assert read_found(tmp_path) == {}


def test_what_a_killed_run_left_is_in_nobodys_way(tmp_path: Path, found: Found) -> None:
    write_found(tmp_path / "a", list_of("a", found, {}, "0a"), found)
    for end in ("part", "before"):
        (tmp_path / f".a.{end}").mkdir()
        (tmp_path / f".a.{end}" / "file").write_text("left")
    write_found(tmp_path / "a", list_of("a", found, {"flips": 3}, "0a"), found)
    assert read_found(tmp_path / "a")["made_from"] == {"flips": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_table_begins_with_the_most_worthwhile(tmp_path: Path, found: Found) -> None:
    write_found(tmp_path / "a", list_of("a", found, {}, "0a"), found)
    write_found(tmp_path / "b", list_of("b", found, {}, "0a"), found)
    rows = [row for name in "ba" for row in json.loads((tmp_path / name / "candidates.json").read_text())["candidates"]]
    write_table(tmp_path / "all.csv", rows)
    with open(tmp_path / "all.csv") as file:
        table = list(csv.DictReader(file))
    assert [(row["case"], row["number"]) for row in table] == [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2")]
    assert table[2]["above_carina_mm"] == "" and table[0]["short_axis_mm"] == "10.0"
