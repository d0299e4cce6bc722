"""Two processes on one CPU (gloo) against one process with the same batch."""

from __future__ import annotations

import csv
import gc
import importlib.util
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers.paths import HELPERS, ROOT
from torch import nn

from training.engine import loop as loop_module
from training.engine.checkpoint import load_checkpoint
from training.engine.machine import process_layout
from training.engine.run import TrainingRun
from training.finetune import main
from training.pretrain import main as pretrain_main

SCRIPT, STOPPING = (HELPERS / name for name in ("split_batch.py", "stopping.py"))
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{HELPERS.parent}", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TORCHELASTIC = {"TORCHELASTIC_RUN_ID": "x"}  # how torchrun makes itself known
# No dropout: its noise differs between processes. Six steps of two samples, full and partial ones mixed
TINY = ["--preset", "tiny", "--auxiliary-dropout", "0", "--precision", "32-true", "--picture-every", "0"]


@pytest.fixture(scope="module")
def split_batch() -> ModuleType:
    specification = importlib.util.spec_from_file_location("split_batch", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes found, for each split of the batch."""
    folder = tmp_path_factory.mktemp("parts")
    command = [sys.executable, str(SCRIPT)]
    running = [subprocess.Popen([*command, rank, "2", str(folder)], env=ENVIRONMENT) for rank in ("0", "1")]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    return folder


@pytest.mark.parametrize("split", [0, 1], ids=["uneven", "a process without samples"])
def test_losses_and_gradients_are_those_of_the_whole_batch(split: int, parts: Path, split_batch: ModuleType) -> None:
    found = [torch.load(parts / f"{split}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, (loss, gradient) in split_batch.losses_and_gradients(*split_batch.batch()).items():
        for part in found:
            assert part[name][0].item() == pytest.approx(loss.item(), rel=1e-12), name
        averaged = torch.cat([part[name][1] for part in found]) / 2  # as DistributedDataParallel averages
        assert torch.allclose(averaged, gradient, rtol=1e-10, atol=1e-14), name
    assert [part["share"][0].item() for part in found] == [split_batch.SPLITS[split][0] / 4] * 2


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
def prepared(tmp_path_factory: pytest.TempPathFactory, make_prepared: Callable[..., Path]) -> Path:
    return make_prepared(tmp_path_factory.mktemp("data"))


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


def test_signal_to_one_process_stops_all_and_one_alone_can_go_on(prepared: Path, alone: Path, tmp_path: Path) -> None:
    stopped = torchrun(str(STOPPING), *settings(prepared, tmp_path))
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
    start = loop_module._start

    def remember(run: TrainingRun, network: nn.Module) -> tuple[Any, ...]:
        started = start(run, network)
        wrapped.append(weakref.ref(started[1]))
        return started

    def leave() -> None:
        gc.collect()
        left.append(wrapped[0]())

    monkeypatch.setattr(loop_module, "_start", remember)
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


@pytest.mark.parametrize(
    ("devices", "environment", "layout"),
    [
        (1, {}, (1, 1)),
        (3, {}, (3, 1)),
        (1, {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        (
            1,
            {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "2", "SLURM_STEP_NUM_TASKS": "2"},
            (1, 2),
        ),
    ],
    ids=["alone", "devices", "torchrun", "torchrun under srun"],
)
def test_layout_is_torchruns_or_that_of_devices(
    devices: int, environment: dict[str, str], layout: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert process_layout(devices) == layout


def test_copies_that_slurm_starts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(ValueError, match="srun started several copies of one run: let it start torchrun once per node"):
        process_layout(1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(ValueError, match="Under Slurm start several processes with torchrun, not with --devices"):
        process_layout(2)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="2 processes need as many GPUs, and this node has 1"):
        process_layout(2)
