from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.training_runs import weights
from rich.console import Console

from training.ablation import run as module
from training.ablation.cell import AblationCell, Bench, train_cell, train_cells_together
from training.ablation.run import LOG_NAME, missing_cells, run_cells
from training.ablation.table import add_row, read_table

MakeBench = Callable[[Path], Bench]
CELLS = [AblationCell("baseline", 0), AblationCell("f", 0)]


@pytest.fixture
def console() -> Console:
    return Console(stderr=True, soft_wrap=True)


def test_cells_of_the_table_are_not_run_again(bench: MakeBench, tmp_path: Path, console: Console) -> None:
    place, results = bench(tmp_path / "runs"), tmp_path / "results"
    cells = [AblationCell("baseline", 0), AblationCell("baseline", 1), AblationCell("baseline", 0)]
    assert missing_cells(cells, place, results) == cells[:2]
    assert run_cells(cells[:1], place, results, 1, console).failed == []
    assert missing_cells(cells, place, results) == [AblationCell("baseline", 1)]
    assert [row.key for row in read_table(results)] == [place.key(AblationCell("baseline", 0))]


def test_failing_cell_ends_no_other(
    bench: MakeBench,
    tmp_path: Path,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = module.run_cell

    def run_cell(cell: AblationCell, bench: Bench) -> bool:
        if cell.row == "a":
            raise RuntimeError("The loss was not finite in epoch 1: start again with a lower rate")
        return original(cell, bench)

    monkeypatch.setattr(module, "run_cell", run_cell)
    place, results = bench(tmp_path / "runs"), tmp_path / "results"
    outcome = run_cells([AblationCell("a", 0), AblationCell("baseline", 0)], place, results, 1, console)
    assert outcome.failed == ["row a, seed 0"] and not outcome.stopped
    assert [row.row for row in read_table(results)] == ["baseline"]
    assert "Error: The loss was not finite in epoch 1" in capsys.readouterr().err


def test_stopped_cell_ends_the_command(
    bench: MakeBench, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(module, "run_cell", lambda cell, _: bool(ran.append(cell.row)))
    outcome = run_cells(CELLS, bench(tmp_path / "runs"), tmp_path / "results", 1, console)
    assert outcome.stopped and ran == ["baseline"] and not outcome.failed


def test_cells_trained_together_are_those_trained_alone(bench: MakeBench, tmp_path: Path) -> None:
    for name in ("alone", "together"):
        (tmp_path / name).mkdir()
    alone, together = bench(tmp_path / "alone"), bench(tmp_path / "together")
    assert train_cells_together(CELLS, together)
    for cell in CELLS:
        assert train_cell(cell, alone)
        a, b = (weights(place.output(cell) / "finetune.pt") for place in (alone, together))
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_cells_trained_together_give_the_same_rows(bench: MakeBench, tmp_path: Path, console: Console) -> None:
    for name, together in (("alone", 1), ("together", 2)):
        (tmp_path / name).mkdir()
        outcome = run_cells(CELLS, bench(tmp_path / name), tmp_path / name / "results", 1, console, together)
        assert not outcome.failed and not outcome.stopped
    alone, both = (
        {(row.row, row.seed): (row.dice_best, row.raw_dice_half) for row in read_table(tmp_path / name / "results")}
        for name in ("alone", "together")
    )
    assert both == alone and len(both) == 2


def test_cells_of_one_seed_are_a_group() -> None:
    cells = [AblationCell(row, seed) for seed in (0, 1) for row in "cdf"]
    assert [[(c.row, c.seed) for c in group] for group in module._groups(cells, 2)] == [
        [("c", 0), ("d", 0)], [("f", 0)], [("c", 1), ("d", 1)], [("f", 1)],
    ]  # fmt: skip
    assert module._groups(cells, 1) == [[cell] for cell in cells]


def test_a_signal_ends_cells_that_are_trained_together(
    bench: MakeBench, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(module, "run_cell", lambda cell, _: bool(ran.append(cell.row)))
    monkeypatch.setattr(module, "train_cells_together", lambda _cells, _bench: False)
    assert run_cells(CELLS, bench(tmp_path / "runs"), tmp_path / "results", 1, console, 2).stopped
    assert ran == []


@pytest.mark.slow
def test_cells_side_by_side_give_the_same_rows(bench: MakeBench, tmp_path: Path, console: Console) -> None:
    place, results = bench(tmp_path / "runs"), tmp_path / "results"
    (tmp_path / "alone").mkdir()
    alone = bench(tmp_path / "alone")
    add_row(results, _row(alone, AblationCell("c", 0), console, tmp_path))  # a row of another sitting stays
    outcome = run_cells(CELLS, place, results, 2, console)
    assert not outcome.failed and not outcome.stopped
    rows = {row.row: row for row in read_table(results)}
    assert rows.keys() == {"c", "baseline", "f"}
    assert rows["f"].dice_best == _row(alone, AblationCell("f", 0), console, tmp_path).dice_best
    assert "finetune 3/3" in (place.output(CELLS[0]) / LOG_NAME).read_text()


def _row(place: Bench, cell: AblationCell, console: Console, tmp_path: Path):
    run_cells([cell], place, tmp_path / "other", 1, console)
    return read_table(place.output(cell))[0]
