"""Two processes on one CPU (gloo) against one process with the same batch."""

from __future__ import annotations

import csv
import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import HELPERS, ROOT
from helpers.training_runs import ENVIRONMENT
from torch import nn

from training.engine import active as active_module
from training.engine import loop as loop_module
from training.engine.checkpoint import load_checkpoint
from training.engine.run import TrainingRun
from training.finetune import main
from training.pretrain import main as pretrain_main

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


# No dropout: its noise differs between processes. Six steps of two samples, full and partial ones mixed
TINY = ["--preset", "tiny", "--auxiliary-dropout", "0", "--precision", "32-true", "--picture-every", "0"]


def settings(data: Path, output: Path, *others: str) -> list[str]:
    return [*TINY, "--data", str(data), "-o", str(output), *others]


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a module (-m) or a script in two processes."""
    return subprocess.run([*TORCHRUN, *command], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def metrics(folder: Path) -> list[dict[str, float]]:
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if not name.endswith("seconds")} for row in rows]


def assert_equal_runs(one: Path, other: Path, checkpoint: str = "finetune.pt") -> None:
    for row, wanted in zip(metrics(one), metrics(other), strict=True):
        assert row == pytest.approx(wanted, rel=1e-5)
    a, b = (load_checkpoint(folder / checkpoint)["model"] for folder in (one, other))
    for name in a:
        assert torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-6), name


@pytest.fixture(scope="module")
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    output = tmp_path_factory.mktemp("alone")
    assert main(settings(prepared, output)) == 0
    return output


def test_torchrun_forms_one_run_equal_to_one_process(prepared: Path, alone: Path, tmp_path: Path) -> None:
    done = torchrun("-m", "training.finetune", *settings(prepared, tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("finetune 2/2") == 1  # one process reports
    assert_equal_runs(tmp_path, alone)
    checkpoint = load_checkpoint(tmp_path / "finetune.pt")
    assert checkpoint["complete"] and checkpoint["rng"]["cpu"].shape[0] == 2
    assert {"full_main", "supervised_main"} <= checkpoint["history"][0].keys()  # both kinds were there


@pytest.mark.slow
def test_signal_to_one_process_stops_all_and_one_alone_can_go_on(prepared: Path, alone: Path, tmp_path: Path) -> None:
    stopped = torchrun(str(HELPERS / "stopping.py"), *settings(prepared, tmp_path))
    assert "Stopped at step 2 of 6" in stopped.stderr, stopped.stderr
    assert stopped.returncode != 0
    assert load_checkpoint(tmp_path / "finetune.pt")["step"] == 2
    assert main(settings(prepared, tmp_path)) == 0
    assert_equal_runs(tmp_path, alone)


def test_wrapped_network_is_gone_before_the_process_group_is_left(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a network of DistributedDataParallel after its group's may wait forever."""
    wrapped: list[weakref.ref[nn.Module]] = []
    left: list[nn.Module | None] = []
    start = active_module._start

    def remember(run: TrainingRun, network: nn.Module) -> tuple[Any, ...]:
        started = start(run, network)
        wrapped.append(weakref.ref(started[1]))
        return started

    def leave() -> None:
        gc.collect()
        left.append(wrapped[0]())

    monkeypatch.setattr(active_module, "_start", remember)
    monkeypatch.setattr(loop_module, "leave", leave)
    assert main(settings(prepared, tmp_path)) == 0
    assert left == [None]


@pytest.mark.slow
def test_pre_training_in_two_processes_equals_one(prepared: Path, tmp_path: Path) -> None:
    done = torchrun("-m", "training.pretrain", *settings(prepared, tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert pretrain_main(settings(prepared, tmp_path / "one")) == 0
    assert_equal_runs(tmp_path / "two", tmp_path / "one", "pretrain.pt")


@pytest.mark.slow
def test_batch_that_cannot_be_shared_out_is_refused(prepared: Path, tmp_path: Path) -> None:
    failed = torchrun("-m", "training.finetune", *settings(prepared, tmp_path, "--finetune.batch", "3"))
    assert failed.returncode != 0
    assert "Error: A batch of 3 cannot be shared out evenly to 2 processes" in failed.stderr
    assert not (tmp_path / "finetune.pt").exists()
