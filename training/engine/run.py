"""Describe a run, hold its state, and store both in a checkpoint."""

from __future__ import annotations

from collections import Counter
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
from training.engine.machine import environment


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


@dataclass
class State:
    """What changes during a run. Tensors keep their place in memory: steps that were recorded read and write there."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None  # averaged weights, where the stage asks for them
    device: torch.device
    rate: Tensor | None = None  # the learning rate, where the optimiser takes a tensor
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)  # of terms and times over the current epoch, float64 scalars
    counts: Counter[str] = field(default_factory=Counter)  # the number of steps that had each of them
    history: list[dict[str, float]] = field(default_factory=list)  # one row per finished epoch
    environment: dict[str, str] = field(default_factory=environment)  # of the run's start: its code was read then

    def __post_init__(self) -> None:
        # how far the averaged weights move towards the network's in a step, 0 to 1
        self.nearer = torch.zeros((), device=self.device)

    def sum_of(self, name: str) -> Tensor:
        """The sum of a term of the loss."""
        if name not in self.sums:
            self.sums[name] = torch.zeros((), dtype=torch.float64, device=self.device)
        return self.sums[name]

    def add_time(self, name: str, seconds: float) -> None:
        """Add to a sum that the host takes."""
        self.sums[name] = self.sums.get(name, torch.zeros((), dtype=torch.float64)) + seconds
        self.counts[name] += 1

    def read_sums(self) -> dict[str, tuple[float, int]]:
        """The current epoch's sums and counts. Waits for the device."""
        return {name: (float(self.sums[name]), count) for name, count in self.counts.items()}

    def begin_epoch(self) -> None:
        """Set all sums to 0."""
        for total in self.sums.values():
            total.zero_()
        self.counts.clear()


def capture(run: TrainingRun, state: State, fabric: Fabric) -> Checkpoint:
    """Everything that export and a resumed run need, as tensors and plain values. All processes must call it."""
    rng = {"cpu": gather(torch.get_rng_state(), fabric.device)}
    if fabric.device.type == "cuda":
        rng["cuda"] = gather(torch.cuda.get_rng_state(fabric.device), fabric.device)
    optimizer = state.optimizer.state_dict()
    groups = [group | {"lr": float(group["lr"])} for group in optimizer["param_groups"]]
    return {
        "format": FORMAT_VERSION,
        "stage": run.name,
        "complete": state.step == run.steps,
        "step": state.step,
        "config": to_plain(run.config),
        "facts": to_plain(run.facts),
        "environment": state.environment,
        "model": state.network.state_dict(),
        "average": state.average,
        "optimizer": optimizer | {"param_groups": groups},
        "precision": fabric.strategy.precision.state_dict(),
        "rng": rng,
        "sums": state.read_sums(),
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
    own = [group["fused"] for group in state.optimizer.param_groups]
    state.optimizer.load_state_dict(checkpoint["optimizer"])
    for group, fused in zip(state.optimizer.param_groups, own, strict=True):
        group["fused"] = fused  # by this machine, not by that of the checkpoint
    fabric.strategy.precision.load_state_dict(checkpoint["precision"])
    for name, value in (checkpoint["average"] or {}).items():
        assert state.average is not None
        state.average[name].copy_(value)
    state.step, state.history = checkpoint["step"], checkpoint["history"]
    for name, (total, count) in checkpoint["sums"].items():
        state.counts[name] = count
        if name.endswith("seconds"):
            state.sums[name] = torch.tensor(total, dtype=torch.float64)
        else:
            state.sum_of(name).fill_(total)
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
