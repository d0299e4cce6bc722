from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from lnq.image.volume import Volume, make_affine
from training.scoring.scores import (
    EMPTY_RULE,
    by_size,
    node_f1,
    replace_missing,
    replace_missing_assd,
    score,
    summary,
    write_results,
)

GRID = Volume(np.zeros((20, 40, 40), np.int32), make_affine((2.0, 1.0, 1.0)))


def cube(value: int, z: slice, y: slice, x: slice, array: np.ndarray | None = None) -> np.ndarray:
    out = np.zeros(GRID.shape, np.int32) if array is None else array
    out[z, y, x] = value
    return out


@pytest.fixture
def truth() -> Volume:
    """Two nodes of 10 x 10 mm and 4 x 4 mm in the slice."""
    array = cube(1, np.s_[4:9], np.s_[5:15], np.s_[5:15])
    return GRID.with_array(cube(2, np.s_[12:14], np.s_[25:29], np.s_[25:29], array))


@pytest.fixture
def nothing() -> Volume:
    return GRID.with_array(np.zeros(GRID.shape, np.uint8))


def test_scores_of_a_case(truth: Volume) -> None:
    found = cube(1, np.s_[4:9], np.s_[5:15], np.s_[5:10])  # half of the large node
    found = cube(1, np.s_[16:18], np.s_[2:6], np.s_[30:34], found)  # a false component
    result = score("a", truth.with_array(found.astype(np.uint8)), truth, seconds=1.0)
    assert result.dice == pytest.approx(2 * 250 / (250 + 32 + 500 + 32))
    assert (result.nodes, result.large_nodes, result.large_found) == (2, 1, 1)
    assert (result.components, result.false_components) == (2, 1)
    assert node_f1([result]) == pytest.approx(0.5)  # one of two nodes, one of two components
    assert result.true_mm3 == 532 * 2.0 and result.predicted_mm3 == 282 * 2.0


def test_empty_prediction_gets_the_largest_assd_of_the_set(truth: Volume, nothing: Volume) -> None:
    half = truth.with_array(cube(1, np.s_[4:9], np.s_[5:15], np.s_[5:10]).astype(np.uint8))
    results = [score(n, m, truth, 1.0) for n, m in (("none", nothing), ("half", half), ("same", truth))]
    replaced = replace_missing_assd(results)
    assert math.isnan(results[0].assd_mm)
    assert replaced[0].assd_mm == results[1].assd_mm and replaced[0].assd_replaced
    assert replaced[2].assd_mm == 0.0
    numbers = summary(replaced)
    assert numbers["replaced_assd"] == 1 and numbers["cases"] == 3 and numbers["both_empty"] == 0
    assert numbers["large_nodes_found"] == pytest.approx(2 / 3)
    assert math.isnan(summary(replace_missing_assd(results[:1]))["mean_assd_mm"])


def test_two_empty_masks_agree(truth: Volume, nothing: Volume) -> None:
    both = score("both", nothing, nothing, 1.0)
    assert (both.dice, both.assd_mm) == (1.0, 0.0)
    invented = score("invented", truth, nothing, 1.0)  # the truth is empty, the prediction is not
    assert invented.dice == 0.0 and math.isnan(invented.assd_mm)
    assert summary([both, invented])["both_empty"] == 1


def test_missing_distances_take_the_largest_known_one() -> None:
    assert replace_missing([2.0, math.nan, 5.0]) == [2.0, 5.0, 5.0]
    assert all(math.isnan(value) for value in replace_missing([math.nan, math.nan]))
    assert replace_missing([]) == []


def test_detection_is_counted_by_short_axis(truth: Volume) -> None:
    rows = by_size([score("a", truth.with_array((truth.array == 2).astype(np.uint8)), truth, 1.0)])
    counts = {(row["from_mm"], row["to_mm"]): (row["nodes"], row["found"]) for row in rows}
    assert counts[(0.0, 5.0)] == (1, 1)
    assert counts[(8.0, 10.0)][0] + counts[(10.0, 15.0)][0] == 1
    assert sum(found for _, found in counts.values()) == 1


def test_tables_hold_a_row_per_case_and_per_node(tmp_path: Path, truth: Volume, nothing: Volume) -> None:
    results = replace_missing_assd([score("same", truth, truth, math.nan), score("none", nothing, truth, math.nan)])
    write_results(tmp_path, results, {"scored": "masks", "threshold": None})
    with open(tmp_path / "cases.csv") as file:
        cases = {row["case"]: row for row in csv.DictReader(file)}
    assert float(cases["same"]["dice"]) == 1.0 and cases["none"]["assd_replaced"] == "True"
    with open(tmp_path / "nodes.csv") as file:
        nodes = [(row["case"], row["volume_mm3"], row["found"]) for row in csv.DictReader(file)]
    assert nodes == [("same", "1000.0", "1"), ("same", "64.0", "1"), ("none", "1000.0", "0"), ("none", "64.0", "0")]
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["scored"] == "masks" and content["mean_dice"] == 0.5 and content["replaced_assd"] == 1
    assert content["empty_masks"] == EMPTY_RULE
    assert content["mean_seconds"] is None and content["by_size"][-1]["to_mm"] is None  # JSON has neither
