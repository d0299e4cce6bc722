from __future__ import annotations

import pytest
import torch

from training.engine.machine import process_layout


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
