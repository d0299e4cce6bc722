"""Runs that are taken side by side in one process."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.training_runs import RESUMED, assert_same_run, weights
from torch import Tensor, nn

from training.config import Losses, Stage
from training.data.dataset import FinetuneDataset, Sample
from training.data.dataset_info import normalisation_for, read_dataset_info
from training.data.prepared import PreparedCase, case_folders
from training.engine.active import Job
from training.engine.checkpoint import load_checkpoint
from training.engine.finetuning import Wanted, finetune, finetune_together
from training.engine.loop import train_together
from training.engine.run import Facts, TrainingRun
from training.method.network import DualBranchNet
from training.method.step import CROSS_ENTROPY, Position

PLAIN = dataclasses.replace(RESUMED, picture_every=0)
OTHER = dataclasses.replace(PLAIN, losses=Losses(tau=0.2))
SHORTER = dataclasses.replace(PLAIN, finetune=dataclasses.replace(PLAIN.finetune, epochs=2))


def wanted(folder: Path) -> list[Wanted]:
    """Three runs that differ in losses, method and length."""
    return [
        Wanted(folder / "a", PLAIN),
        Wanted(folder / "b", OTHER),
        Wanted(folder / "c", SHORTER, objective=CROSS_ENTROPY),
    ]


def alone(prepared: Path, folder: Path) -> None:
    for one in wanted(folder):
        assert finetune(prepared, one.output, one.config, objective=one.objective)


def test_runs_side_by_side_end_as_each_would_alone(prepared: Path, tmp_path: Path, uninterrupted: Path) -> None:
    assert finetune_together(prepared, wanted(tmp_path / "together")) == [True, True, True]
    alone(prepared, tmp_path / "alone")
    for name in "abc":
        assert_same_run(tmp_path / "together" / name, tmp_path / "alone" / name)
    assert_same_run(tmp_path / "together" / "a", uninterrupted)
    assert not torch.equal(*(weights(tmp_path / "alone" / n / "finetune.pt")["main.head.weight"] for n in "ab"))


def test_runs_that_were_stopped_apart_go_on_together(
    prepared: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = FinetuneDataset.__getitem__

    def failing(self: FinetuneDataset, index: int) -> Sample:
        if index == 12:
            raise KeyboardInterrupt
        return get(self, index)

    folder = tmp_path / "together"
    with monkeypatch.context() as patched:
        patched.setattr(FinetuneDataset, "__getitem__", failing)
        with pytest.raises(KeyboardInterrupt):
            finetune(prepared, folder / "b", OTHER)
    assert load_checkpoint(folder / "b" / "finetune.pt")["step"] == 6
    assert finetune_together(prepared, wanted(folder)[:2]) == [True, True]
    assert finetune_together(prepared, wanted(folder)[:2]) == [True, True]
    assert_same_run(folder / "a", uninterrupted)
    assert finetune(prepared, tmp_path / "alone", OTHER)
    assert_same_run(folder / "b", tmp_path / "alone")


def test_a_run_that_fails_does_not_end_those_beside_it(prepared: Path, tmp_path: Path, uninterrupted: Path) -> None:
    cases = [PreparedCase(folder, True) for folder in case_folders(prepared)]

    def job(name: str, factor: float) -> Job:
        def step(model: nn.Module, batch: Sample, position: Position) -> dict[str, Tensor]:
            return {"loss": model(batch["image"])[0].square().mean() * (factor if position.epoch == 1 else 1.0)}

        torch.manual_seed(0)
        run = TrainingRun("finetune", RESUMED.finetune, RESUMED, tmp_path / name, Facts(()))
        return Job(run, DualBranchNet(RESUMED.network), step)

    data = FinetuneDataset(cases, RESUMED, normalisation_for("ct", read_dataset_info(prepared)))
    good, bad = train_together([job("good", 1.0), job("bad", float("nan"))], data)
    assert good is True
    assert str(bad) == "The loss was not finite in epoch 1: start again with a lower rate"
    assert load_checkpoint(tmp_path / "bad" / "finetune.pt")["step"] == 3


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(RESUMED, seed=1),
        dataclasses.replace(RESUMED, patch=(8, 16, 24)),
        dataclasses.replace(RESUMED, finetune=Stage(epochs=3, iterations=3, batch=4)),
    ],
)
def test_runs_of_other_samples_are_not_trained_together(prepared: Path, tmp_path: Path, config) -> None:
    both = [Wanted(tmp_path / "a", RESUMED), Wanted(tmp_path / "b", config)]
    with pytest.raises(ValueError, match="must agree in all that their samples depend on"):
        finetune_together(prepared, both)
    assert list(tmp_path.iterdir()) == []
