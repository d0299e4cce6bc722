from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.ablation import cell as module
from training.ablation.cell import (
    AblationCell,
    Bench,
    pretraining,
    run_cell,
    run_pretraining,
    sweep_cells,
    table_cells,
    train_cell,
)
from training.ablation.table import CellRow, read_table
from training.config import Losses, Stage
from training.data.dataset import FinetuneDataset, Sample
from training.engine.checkpoint import load_checkpoint
from training.method.network import DualBranchNet, is_head

MakeBench = Callable[[Path], Bench]


def without_times(row: CellRow) -> CellRow:
    return dataclasses.replace(row, train_minutes=0.0, score_minutes=0.0, assd_half_mm=(), assd_best_mm=())


def test_cells_of_the_table_fill_it_seed_by_seed() -> None:
    assert table_cells(("baseline", "f"), (0, 1)) == [
        AblationCell("baseline", 0),
        AblationCell("f", 0),
        AblationCell("baseline", 1),
        AblationCell("f", 1),
    ]


def test_sweep_shares_the_cell_of_its_usual_value_with_the_table() -> None:
    assert sweep_cells("alpha", (0,), Losses()) == [
        AblationCell("f", 0, "alpha", 0.3),
        AblationCell("f", 0),
        AblationCell("f", 0, "alpha", 0.5),
        AblationCell("f", 0, "alpha", 0.6),
    ]
    assert AblationCell("f", 0) not in sweep_cells("alpha", (0,), Losses(alpha=0.45))


def test_cell_changes_its_seed_and_one_parameter(bench: MakeBench, tmp_path: Path) -> None:
    base = bench(tmp_path).size.config
    config = AblationCell("f", 3, "lambda", 1.4).config(base)
    assert config == dataclasses.replace(base, seed=3, losses=dataclasses.replace(base.losses, final=1.4))
    assert AblationCell("f", 3, "lambda", 1.4).name == "f-seed3-lambda1.4" and AblationCell("f", 3).name == "f-seed3"
    assert AblationCell("f", 3, "lambda", 1.4).title == "row f with lambda 1.4, seed 3"


@pytest.fixture(scope="module")
def whole(bench: MakeBench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench on which row (f) was run without interruption."""
    place = bench(tmp_path_factory.mktemp("whole"))
    assert run_cell(AblationCell("f", 1), place)
    return place


def test_finished_cell_leaves_its_row(whole: Bench) -> None:
    (row,) = read_table(whole.output(AblationCell("f", 1)))
    assert row.key == whole.key(AblationCell("f", 1))
    assert (row.steps, row.ramp_steps, row.pretrain_steps, row.seed) == (6, 2, 0, 1)
    assert len(row.dice_half) == len(row.dice_best) == len(row.assd_best_mm) == 2  # test cases
    assert row.train_minutes > 0 and 0 <= row.marked_best <= 1
    history = load_checkpoint(whole.output(AblationCell("f", 1)) / "finetune.pt")["history"]
    assert {"consensus_main", "supervised_aux"} <= history[0].keys()


def test_finished_cell_is_not_run_again(whole: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train_cell", None)
    assert run_cell(AblationCell("f", 1), whole)


def test_stopped_cell_resumes_to_the_same_row(
    whole: Bench, bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    original = FinetuneDataset.__getitem__

    def interrupting(self: FinetuneDataset, index: int) -> Sample:
        nonlocal calls
        calls += 1
        if calls == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, index)

    place, cell = bench(tmp_path), AblationCell("f", 1)
    with monkeypatch.context() as patched:
        patched.setattr(FinetuneDataset, "__getitem__", interrupting)
        assert not run_cell(cell, place)
    assert load_checkpoint(place.output(cell) / "finetune.pt")["step"] == 3
    assert read_table(place.output(cell)) == []
    assert run_cell(cell, place)
    (got,), (wanted,) = read_table(place.output(cell)), read_table(whole.output(cell))
    assert without_times(got) == without_times(wanted)


def test_scoring_that_was_interrupted_does_not_train_again(
    bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, cell = bench(tmp_path), AblationCell("baseline", 0)
    with monkeypatch.context() as patched:
        patched.setattr(module, "score_cell", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_cell(cell, place)
    checkpoint = place.output(cell) / "finetune.pt"
    before = checkpoint.stat().st_mtime_ns
    assert run_cell(cell, place)
    assert checkpoint.stat().st_mtime_ns == before
    assert read_table(place.output(cell))[0].row == "baseline"


def test_pretrained_row_starts_from_weights_that_lengths_and_losses_share(bench: MakeBench, tmp_path: Path) -> None:
    place = bench(tmp_path)
    still = dataclasses.replace(
        place.size.config,
        finetune=Stage(epochs=1, iterations=1, lr=0.0, weight_decay=0.0),
        losses=Losses(tau=0.1),
    )
    other = dataclasses.replace(place, size=dataclasses.replace(place.size, config=still))
    assert pretraining(other) == pretraining(place)
    with pytest.raises(ValueError, match=r"^There is no checkpoint at .*pretrain.pt$"):
        train_cell(AblationCell("g", 0), place)
    assert run_pretraining(place)
    assert train_cell(AblationCell("g", 2), other)
    before = load_checkpoint(pretraining(place))["model"]
    after = load_checkpoint(other.output(AblationCell("g", 2)) / "finetune.pt")
    assert all(torch.equal(value, before[name]) for name, value in after["model"].items() if not is_head(name))
    assert after["facts"]["pretraining"]["steps"] == 2 and after["facts"]["method"] == "row g"


def test_baseline_leaves_the_auxiliary_branch_alone(bench: MakeBench, tmp_path: Path) -> None:
    place = bench(tmp_path)
    assert train_cell(AblationCell("baseline", 5), place)
    torch.manual_seed(5)
    start = DualBranchNet(place.size.config.network).state_dict()
    trained = load_checkpoint(place.output(AblationCell("baseline", 5)) / "finetune.pt")["model"]
    for name, value in trained.items():
        assert torch.equal(value, start[name]) == name.startswith("auxiliary"), name
