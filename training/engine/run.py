"""Describe a run, hold its state, and store both in a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from lnq.inference.spec import Normalisation
from lnq.plain import from_plain, to_plain
from training.config import Config, Stage
from training.data.dataset_info import DatasetInfo
from training.engine.checkpoint import FORMAT_VERSION, Checkpoint, differences, load_checkpoint
from training.engine.distributed import gather


@dataclass(frozen=True)
class Facts:
    """What a run was given besides its configuration. Export needs it, and a resumed run must have the same.

    In pre-training all but `cases` is None.
    """

    cases: tuple[str, ...]  # names of the cases that it trains on
    method: str | None = None  # name of the objective
    init: str | None = None  # path of the weights that it started from; None: from chance
    dataset: DatasetInfo | None = None  # statistics over all prepared training cases
    normalisation: Normalisation | None = None
    pretraining: dict[str, Any] | None = None  # origin of the weights that it started from


@dataclass(frozen=True)
class TrainingRun:
    """One run: its stage's name and settings, its output folder, and the facts that its checkpoint must hold."""

    name: str
    stage: Stage
    config: Config
    output: Path
    facts: Facts

    @property
    def checkpoint(self) -> Path:
        """The run's one checkpoint file."""
        return self.output / f"{self.name}.pt"

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.stage.epochs * self.stage.iterations


Sum = tuple[Tensor, int]
"""Sum of a term of the loss, and the number of steps that had this term."""


@dataclass
class State:
    """What changes during a run."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None  # averaged weights, where the stage asks for them
    step: int = 0
    sums: dict[str, Sum] = field(default_factory=dict)  # terms and times of the current epoch
    history: list[dict[str, float]] = field(default_factory=list)  # one row per finished epoch


def capture(run: TrainingRun, state: State, fabric: Fabric) -> Checkpoint:
    """Everything that export and a resumed run need, as tensors and plain values. All processes must call it."""
    rng = {"cpu": gather(torch.get_rng_state(), fabric.device)}
    if fabric.device.type == "cuda":
        rng["cuda"] = gather(torch.cuda.get_rng_state(fabric.device), fabric.device)
    return {
        "format": FORMAT_VERSION,
        "stage": run.name,
        "complete": state.step == run.steps,
        "step": state.step,
        "config": to_plain(run.config),
        "facts": to_plain(run.facts),
        "model": state.network.state_dict(),
        "average": state.average,
        "optimizer": state.optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),
        "rng": rng,
        "sums": {name: (float(total), count) for name, (total, count) in state.sums.items()},
        "history": state.history,
    }


def read_config(checkpoint: Checkpoint) -> Config:
    """The run's configuration. Settings that an older checkpoint lacks had their defaults."""
    return from_plain(Config, checkpoint["config"])


def read_facts(checkpoint: Checkpoint) -> Facts:
    """What the run was given besides its configuration."""
    return from_plain(Facts, checkpoint["facts"])


def resume(run: TrainingRun, state: State, fabric: Fabric) -> None:
    """Load the run's checkpoint into the state. Raises ValueError where its settings differ from the run's."""
    checkpoint = load_checkpoint(run.checkpoint)
    if checkpoint["format"] < FORMAT_VERSION:
        raise ValueError(f"{run.checkpoint} is of an older version, which alone can go on with it: give another folder")
    now = {"config": run.config, "facts": run.facts}
    then = {"config": read_config(checkpoint), "facts": read_facts(checkpoint)}
    changed = differences(to_plain(then), to_plain(now))
    if changed:
        raise ValueError(
            f"{run.output} holds a run with other settings ({', '.join(changed)}): give another output folder"
        )
    state.network.load_state_dict(checkpoint["model"])
    state.optimizer.load_state_dict(checkpoint["optimizer"])
    fabric.strategy.precision.load_state_dict(checkpoint["precision"])
    for name, value in (checkpoint["average"] or {}).items():
        assert state.average is not None
        state.average[name].copy_(value)
    state.step, state.history = checkpoint["step"], checkpoint["history"]
    for name, (total, count) in checkpoint["sums"].items():
        state.sums[name] = (torch.tensor(total, dtype=torch.float64), count)
    _restore_generators(checkpoint, fabric)


def _restore_generators(checkpoint: Checkpoint, fabric: Fabric) -> None:
    """Restore this process's random generators, or seed them anew where the processes or devices changed."""
    rng, rank = checkpoint["rng"], fabric.global_rank
    on_gpu = fabric.device.type == "cuda"
    if len(rng["cpu"]) != fabric.world_size or on_gpu != ("cuda" in rng):
        torch.manual_seed(checkpoint["config"]["seed"] + rank + 2**20 * checkpoint["step"])
        return
    torch.set_rng_state(rng["cpu"][rank])
    if on_gpu:
        torch.cuda.set_rng_state(rng["cuda"][rank], fabric.device)
