from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers.paths import HELPERS
from helpers.training_runs import ENVIRONMENT, RESUMED, FullDisk, assert_same_run, metrics, weights
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from torch import Tensor, nn

from training.config import TINY, Stage
from training.data.dataset import FinetuneDataset, Sample
from training.data.dataset_info import normalisation_for, read_dataset_info
from training.data.prepared import PreparedCase, case_folders
from training.engine import active as active_module
from training.engine import checkpoint as checkpoint_module
from training.engine import record as record_module
from training.engine.checkpoint import load_checkpoint
from training.engine.finetuning import finetune
from training.engine.loop import train
from training.engine.run import Facts, TrainingRun
from training.method.network import DualBranchNet
from training.method.step import Position


class Stop(BaseException):
    """What the tests interrupt a run with."""


Getter = Callable[[FinetuneDataset, int], Sample]


def signalling(original: Getter, after: int) -> Getter:
    """A `__getitem__` that sends this process a SIGTERM with so many samples."""
    calls = 0

    def get(self: FinetuneDataset, index: int) -> Sample:
        nonlocal calls
        calls += 1
        if calls == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, index)

    return get


@pytest.mark.parametrize("after", [4, 7])
def test_run_stopped_by_a_signal_resumes_with_the_same_losses(
    prepared: Path, tmp_path: Path, uninterrupted: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(FinetuneDataset, "__getitem__", signalling(FinetuneDataset.__getitem__, after))
        assert not finetune(prepared, tmp_path / "parts", RESUMED)
    checkpoint = load_checkpoint(tmp_path / "parts" / "finetune.pt")
    assert checkpoint["step"] == -(-after // 2) and not checkpoint["complete"]
    assert finetune(prepared, tmp_path / "parts", RESUMED)
    assert_same_run(tmp_path / "parts", uninterrupted)


def test_run_killed_within_an_epoch_resumes_from_the_last_one(
    prepared: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FinetuneDataset.__getitem__

    def dying(self: FinetuneDataset, index: int) -> Sample:
        if index == 8:
            raise Stop
        return original(self, index)

    with monkeypatch.context() as patched:
        patched.setattr(FinetuneDataset, "__getitem__", dying)
        with pytest.raises(Stop):
            finetune(prepared, tmp_path / "parts", RESUMED)
    assert load_checkpoint(tmp_path / "parts" / "finetune.pt")["step"] == 3
    assert finetune(prepared, tmp_path / "parts", RESUMED)
    assert_same_run(tmp_path / "parts", uninterrupted)


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_run_killed_at_random_moments_resumes_with_the_same_losses(prepared: Path, tmp_path: Path, kills: int) -> None:
    command = [
        sys.executable,
        str(HELPERS / "killing.py"),
        str(prepared),
        str(tmp_path),
        str(kills),
        "5",
    ]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    killed = [folder for folder in tmp_path.iterdir() if folder.name != "whole"]
    assert killed
    for folder in killed:
        assert_same_run(folder, tmp_path / "whole")
        assert not list(folder.glob(".*")), "something half-written was left"


@pytest.mark.parametrize("clip_norm", [12.0, 0.01], ids=["not clipped", "clipped"])
def test_fp16_scales_the_loss_and_clips_the_gradients_as_they_are(
    prepared: Path, tmp_path: Path, clip_norm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, with the scaler that a GPU without bf16 gets: one step must be that of fp32, but for rounding."""
    smooth = Stage(epochs=1, iterations=1, clip_norm=clip_norm, weight_decay=0.0)
    config = dataclasses.replace(RESUMED, finetune=smooth, network=TINY.network, auxiliary_dropout=0.0)
    torch.manual_seed(config.seed)
    start = DualBranchNet(config.network).state_dict()
    assert finetune(prepared, tmp_path / "fp32", config)
    scaling = MixedPrecision("16-mixed", "cpu")
    monkeypatch.setattr(active_module, "Fabric", lambda precision, **others: Fabric(plugins=scaling, **others))
    assert finetune(prepared, tmp_path / "fp16", config)
    assert load_checkpoint(tmp_path / "fp16" / "finetune.pt")["precision"]["scale"] == 2.0**16
    moved = [
        torch.cat([(weights(tmp_path / run / "finetune.pt")[name] - start[name]).flatten() for name in start])
        for run in ("fp32", "fp16")
    ]
    assert moved[0].norm() > 0
    assert (moved[1] - moved[0]).norm() < 0.05 * moved[0].norm()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_run_on_a_gpu_resumes(prepared: Path, tmp_path: Path, precision: str) -> None:
    long = dataclasses.replace(RESUMED, precision=precision, finetune=Stage(epochs=4, iterations=3))
    assert finetune(prepared, tmp_path / "whole", long)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FinetuneDataset, "__getitem__", signalling(FinetuneDataset.__getitem__, 10))
        assert not finetune(prepared, tmp_path / "parts", long)
    assert finetune(prepared, tmp_path / "parts", long)
    for row, wanted in zip(metrics(tmp_path / "parts"), metrics(tmp_path / "whole"), strict=True):
        assert float(row["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-2)  # cuDNN's sums vary


def test_complete_run_is_left_as_it_is(prepared: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "finetune.pt").stat().st_mtime_ns
    assert finetune(prepared, uninterrupted, RESUMED)
    assert (uninterrupted / "finetune.pt").stat().st_mtime_ns == before


def test_run_leaves_its_configuration_and_a_row_per_epoch(uninterrupted: Path) -> None:
    content = json.loads((uninterrupted / "config.json").read_text())
    assert content["config"]["finetune"]["epochs"] == 3
    assert {"commit", "torch", "python"} <= content["environment"].keys()
    assert load_checkpoint(uninterrupted / "finetune.pt")["environment"] == content["environment"]
    rows = metrics(uninterrupted)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.01 * (1 - e / 3) ** 0.9 for e in range(3)])
    assert {"loss", "supervised_main", "consensus_aux"} <= rows[0].keys()


def test_average_differs_from_the_weights_and_has_their_names(uninterrupted: Path) -> None:
    checkpoint = load_checkpoint(uninterrupted / "finetune.pt")
    assert checkpoint["average"].keys() == checkpoint["model"].keys()
    name = "main.head.weight"
    assert not torch.equal(checkpoint["average"][name], checkpoint["model"][name])


def test_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(prepared: Path, tmp_path: Path) -> None:
    cases = [PreparedCase(folder, True) for folder in case_folders(prepared)]
    run = TrainingRun("finetune", RESUMED.finetune, RESUMED, tmp_path, Facts(()))

    def step(model: nn.Module, batch: Sample, position: Position) -> dict[str, Tensor]:
        return {"loss": model(batch["image"])[0].mean() * (float("nan") if position.epoch == 1 else 1.0)}

    data = FinetuneDataset(cases, RESUMED, normalisation_for("ct", read_dataset_info(prepared)))
    with pytest.raises(RuntimeError, match="not finite in epoch 1"):
        train(run, DualBranchNet(RESUMED.network), data, step)
    assert load_checkpoint(run.checkpoint)["step"] == 3


@pytest.mark.parametrize("module", [checkpoint_module, record_module], ids=["checkpoint", "metrics"])
def test_full_disk_stops_the_run_with_a_sentence_and_it_resumes_when_there_is_room(
    prepared: Path,
    tmp_path: Path,
    uninterrupted: Path,
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0

    def until_full(path: Path, mode: str, **others: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            return open(path, mode, **others)
        file = FullDisk(path, "w")
        file.room = 100
        return file if "b" in mode else io.TextIOWrapper(file, write_through=True)

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(module, "open", until_full, raising=False)
        with pytest.raises(
            OSError, match=r"Cannot write .*: No space left on device. The last good checkpoint is kept."
        ):
            finetune(prepared, run, RESUMED)
    assert load_checkpoint(run / "finetune.pt")["step"] == 3
    assert not list(run.glob(".*"))
    assert finetune(prepared, run, RESUMED)
    assert_same_run(run, uninterrupted)


def test_run_outside_the_main_thread_needs_no_signals(prepared: Path, tmp_path: Path) -> None:
    done: list[bool] = []
    work: Callable[[], None] = lambda: done.append(finetune(prepared, tmp_path / "run", RESUMED))  # noqa: E731
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
