from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from training.ablation.summary import assd_spread, dice_spread, difference, missing, of_row, of_sweep, remarks, spread
from training.ablation.table import CellRow

MakeRow = Callable[..., CellRow]
NAN = float("nan")


def test_spread_is_over_phantoms_and_over_seeds() -> None:
    got = dice_spread([(0.2, 0.4), (0.4, 0.8)])
    assert got.mean == pytest.approx(45.0)
    assert got.over_cases == pytest.approx(30 / math.sqrt(2))  # of the phantoms' means, 30 and 60
    assert (got.lowest_seed, got.highest_seed) == (pytest.approx(30.0), pytest.approx(60.0))
    assert got.text() == "45.0 ± 21.2 (30.0 to 60.0)"
    assert dice_spread([(0.2, 0.4)]).text() == "30.0 ± 14.1"
    assert spread([(5.0,)]).text() == "5.0 ± 0.0"


def test_missing_distance_is_the_largest_of_its_seed() -> None:
    got = assd_spread([(NAN, 8.0, 2.0), (4.0, NAN, 2.0), (NAN, NAN, NAN)])
    assert got.mean == pytest.approx((6.0 + 10 / 3) / 2) and got.seeds == 2
    assert assd_spread([(NAN, NAN)]).text() == "none"


def test_differences_are_paired_by_seed(make_row: MakeRow) -> None:
    cells = [
        make_row(row="f", seed=0, dice_best=(0.5, 0.7)),
        make_row(row="f", seed=1, dice_best=(0.6, 0.8)),
        make_row(row="f", seed=2, dice_best=(0.9, 0.9)),  # has no partner
        make_row(row="baseline", seed=0, dice_best=(0.1, 0.1)),
        make_row(row="baseline", seed=1, dice_best=(0.3, 0.3)),
        make_row(row="f", seed=0, parameter="tau", tau=0.1, dice_best=(0.0, 0.0)),  # of a sweep
    ]
    got = difference(cells, "f", "baseline")
    assert got.seeds == 2 and got.mean == pytest.approx(45.0)
    assert (got.lowest_seed, got.highest_seed) == (pytest.approx(40.0), pytest.approx(50.0))
    assert difference(cells, "f", "a").seeds == 0


def test_sweep_holds_the_plain_row_at_its_own_value(make_row: MakeRow) -> None:
    cells = [
        make_row(seed=1),
        make_row(seed=0),
        make_row(parameter="tau", tau=0.4),
        make_row(parameter="tau", tau=0.1),
        make_row(parameter="alpha", alpha=0.5),
    ]
    found = of_sweep(cells, "tau")
    assert list(found) == [0.1, 0.3, 0.4]
    assert [c.seed for c in found[0.3]] == [0]
    assert [c.seed for c in of_row(cells, "f")] == [0, 1]
    assert list(of_sweep(cells, "lambda")) == [2.0]


def test_missing_cells_are_listed(make_row: MakeRow) -> None:
    rows = ("baseline", "a", "b", "c", "d", "e", "g")
    cells = [make_row(row=row, seed=seed) for row in rows for seed in (0, 1, 2)]
    cells += [make_row(row="f", seed=1), make_row(parameter="tau", tau=0.1), make_row(parameter="tau", tau=0.4)]
    assert missing(cells) == [
        "row f: seed 0, 2",
        "tau: 0.2, 0.3",
        "gamma: 0.4, 0.6, 0.8, 1, 1.2",
        "alpha: 0.3, 0.4, 0.5, 0.6",
        "lambda: 1.4, 1.6, 1.8, 2, 2.2",
    ]


def test_collapsed_rows_are_said_to_be(make_row: MakeRow) -> None:
    assert remarks([make_row()]) == ""
    cells = [
        make_row(seed=0, marked_half=0.97),
        make_row(seed=1, marked_half=0.5, dice_best=(0.0, 0.0), assd_best_mm=(NAN, NAN), threshold=0.999877),
    ]
    assert remarks(cells) == (
        "1 of 2 seeds mark more than half of the volume at 0.5; 1 of 2 seeds find nothing; "
        "1 of 2 seeds have their best threshold at the end of those tried; 2 of 4 masks are empty"
    )
