"""What the tests of training runs share: a short configuration, how two runs are compared, and a disk that fills up."""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import os
from pathlib import Path
from typing import Any

import torch
from helpers.paths import HELPERS, ROOT
from torch import Tensor

from training.config import TINY, Stage
from training.engine.checkpoint import load_checkpoint

# Dropout in the encoder too, and several terms of state: what a resumed run could get wrong
RESUMED = dataclasses.replace(
    TINY,
    network=dataclasses.replace(TINY.network, dropout=(0.1, 0.2, 0.0)),
    finetune=Stage(epochs=3, iterations=3, ema=0.9),
    precision="32-true",
    threads=1,
)

SHORT = dataclasses.replace(
    TINY, finetune=Stage(epochs=1, iterations=2, ema=0.9), pretrain=Stage(epochs=1, iterations=1), threads=1
)

STILL = dataclasses.replace(SHORT, finetune=Stage(epochs=1, iterations=1, lr=0.0, weight_decay=0.0))
"""A step that changes no weight: what a run starts from can be read from its checkpoint."""

ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT}:{HELPERS.parent}", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Of processes that train."""


def metrics(run: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without the times."""
    with open(run / "metrics.csv") as file:
        return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in csv.DictReader(file)]


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """The network's, by name."""
    return load_checkpoint(checkpoint)["model"]


def assert_same_run(one: Path, other: Path) -> None:
    """Both fine-tunings recorded the same, and have the same weights, to the bit."""
    assert metrics(one) == metrics(other)
    a, b = load_checkpoint(one / "finetune.pt"), load_checkpoint(other / "finetune.pt")
    for kind in ("model", "average"):
        assert all(torch.equal(a[kind][name], b[kind][name]) for name in a[kind])


class FullDisk(io.FileIO):
    """A file on a disk with room for 1,000 more bytes."""

    room = 1000

    def write(self, data: Any) -> int:
        """Write it, or raise OSError."""
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)
