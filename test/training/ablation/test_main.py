from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.paths import ROOT

from training.ablation import __main__ as module
from training.ablation.__main__ import main, parse_run, wanted_cells
from training.ablation.cell import AblationCell, Bench
from training.ablation.sizes import SIZES
from training.ablation.table import read_table

BASE = ["--output", "out"]


def test_options_choose_the_cells() -> None:
    assert len(wanted_cells(parse_run(BASE))) == 24
    some = wanted_cells(parse_run([*BASE, "--rows", "a", "f", "--seeds", "4"]))
    assert some == [AblationCell("a", 4), AblationCell("f", 4)]
    assert len(wanted_cells(parse_run([*BASE, "--sweep", "gamma"]))) == 5
    both = wanted_cells(parse_run([*BASE, "--sweep", "tau", "--rows", "e"]))
    assert both[:3] == [AblationCell("e", 0), AblationCell("e", 1), AblationCell("e", 2)] and len(both) == 3 + 4


def test_size_gives_the_defaults_and_any_field_can_be_overridden() -> None:
    assert parse_run([*BASE, "--size", "full"]).config == SIZES["full"].config
    command = parse_run([*BASE, "--finetune.epochs", "9", "--losses.ramp", "0.5"])
    assert (command.size, command.config.finetune.epochs, command.config.losses.ramp) == ("small", 9, 0.5)
    assert command.config.patch == SIZES["small"].config.patch


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seed", "3"], "A cell has its own seed and one device: give --seeds and --parallel"),
        (["--devices", "2"], "A cell has its own seed and one device: give --seeds and --parallel"),
        (["--parallel", "0"], "--parallel must be at least 1, not 0"),
        (["--together", "0"], "--together must be at least 1, not 0"),
        (["--together", "2", "--parallel", "2"], "Give --parallel or --together, not both"),
    ],
)
def test_options_that_cells_choose_are_refused(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "out"), *options]) == 2
    assert f"Error: {sentence}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def ready(bench: Callable[[Path], Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command at the tiny size on small prepared cases, without phantoms."""
    place = bench(tmp_path)
    monkeypatch.setitem(module.SIZES, "tiny", dataclasses.replace(SIZES["tiny"], config=place.size.config))
    monkeypatch.setattr(module, "prepared_folders", lambda *_: place.data)
    monkeypatch.setattr(module, "make_data", lambda *_: None)
    return ["--size", "tiny", "--output", str(tmp_path / "out"), "--results", str(tmp_path / "results")]


def test_table_grows_over_sittings(ready: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ready, "--rows", "baseline", "--seeds", "0"]) == 0
    assert main([*ready, "--rows", "baseline", "g", "--seeds", "0"]) == 0
    assert "1 cells are to be run, 1 are there" in capsys.readouterr().err
    rows = read_table(tmp_path / "results")
    assert [(row.row, row.pretrain_steps, row.changes) for row in rows] == [("baseline", 0, ""), ("g", 2, "")]
    report = (tmp_path / "results" / "ablation.md").read_text()
    assert "| g | two decoders, PCE + SCE + Tversky, consensus, pre-trained | 0 |" in report


def test_failed_cells_give_exit_status_1(
    ready: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> bool:
        raise RuntimeError("no memory")

    monkeypatch.setattr("training.ablation.run.run_cell", failing)
    assert main([*ready, "--rows", "c", "--seeds", "1"]) == 1
    assert capsys.readouterr().err.endswith("row c, seed 1 failed\n")
    monkeypatch.setattr("training.ablation.run.run_cell", lambda *_: False)
    assert main([*ready, "--rows", "c", "--seeds", "1"]) == 143


def test_report_alone_needs_no_training(tmp_path: Path) -> None:
    assert main(["report", "--results", str(tmp_path)]) == 0
    assert "No cell is finished yet." in (tmp_path / "ablation.md").read_text()


def test_training_a_cell_imports_neither_simpleitk_nor_openvino() -> None:
    code = "import sys, training.ablation.cell; print(sorted({'SimpleITK', 'openvino', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
