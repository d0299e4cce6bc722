"""The one training loop. Pre-training and fine-tuning hand it a network, a data set and a step function.

A run lives in its output folder: `<stage>.pt` (the checkpoint, replaced after each epoch), `metrics.csv` and
`config.json`. The same command run again resumes it, with the same losses as an uninterrupted run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.checkpoint import FORMAT_VERSION, Checkpoint, differences, load_checkpoint, save_checkpoint
from training.config import Config, Stage, config_to_dict
from training.dataset import Sample, StepSampler
from training.machine import StopSignal, choose_precision, loader_worker, tune_cpu_memory
from training.record import Display, write_config, write_metrics


@dataclass(frozen=True)
class Position:
    """Where the run is, for ramps and for random numbers that depend on the step alone."""

    epoch: int
    step: int  # over all epochs


Step = Callable[[nn.Module, Sample, Position], dict[str, Tensor]]
"""(network, batch, position) -> scalar terms; `loss` is minimised, the others are recorded."""


@dataclass(frozen=True)
class Run:
    """What one run is: its stage's name and settings, where it writes, and what its checkpoint must say."""

    name: str
    stage: Stage
    config: Config
    output: Path
    facts: dict[str, Any]  # plain values that export needs and that a resumed run must share

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
    """What changes while a run runs."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None  # the averaged weights, where the stage wants them
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)  # of the running epoch's terms
    history: list[dict[str, float]] = field(default_factory=list)  # one row per finished epoch


def train(
    run: Run,
    network: nn.Module,
    dataset: Dataset[Sample],
    step: Step,
) -> bool:
    """Train, or resume, until the run is complete (True) or a signal stopped it after a checkpoint (False).

    Raises ValueError where the folder holds a run with other settings, and RuntimeError where the loss is not finite.
    """
    stage = run.stage
    fabric, model, stepper, state = _start(run, network)
    batches = iter(_loader(run, dataset, state.step, fabric))
    with StopSignal() as stop, Display(run.name, run.steps, state.step, fabric.is_global_zero) as display:
        while state.step < run.steps and not stop.received:
            epoch = state.step // stage.iterations
            _set_lr(state.optimizer, stage, epoch)
            network.train()
            while not stop.received:
                _step(run, state, fabric, model, stepper, batches, step)
                display.step(epoch, stage.epochs, state.sums["loss"] / (state.step - epoch * stage.iterations))
                if state.step % stage.iterations == 0:
                    _finish_epoch(state, stage)
                    write_metrics(run.output, state.history)
                    display.epoch(state.history[-1], stage.epochs)
                    break
            _refuse_infinite(state, epoch)
            if fabric.is_global_zero:
                save_checkpoint(run.checkpoint, _capture(run, state, fabric))
        if stop.received:
            display.say(f"Stopped at step {state.step} of {run.steps}; the same command goes on from there.")
    return state.step == run.steps


def _start(run: Run, network: nn.Module) -> tuple[Fabric, nn.Module, Any, State]:
    """Machine, network and optimiser, as new or as the run's checkpoint has them; writes config.json."""
    config, stage = run.config, run.stage
    if config.threads:
        torch.set_num_threads(config.threads)
    precision = choose_precision() if config.precision == "auto" else config.precision
    fabric = Fabric(accelerator="auto", devices=config.devices, precision=precision)
    fabric.launch()
    if fabric.device.type == "cpu":
        tune_cpu_memory()
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(), stage.lr, stage.momentum, weight_decay=stage.weight_decay, nesterov=True
    )
    model, stepper = fabric.setup(network, optimizer)
    state = State(network, optimizer, _copy_weights(network) if stage.ema > 0 else None)
    torch.manual_seed(config.seed)
    run.output.mkdir(parents=True, exist_ok=True)
    if run.checkpoint.is_file():
        _resume(run, state, fabric)
    write_config(run.output, run.name, config_to_dict(config), {**run.facts, "precision": precision})
    return fabric, model, stepper, state


def _step(
    run: Run,
    state: State,
    fabric: Fabric,
    model: nn.Module,
    stepper: Any,
    batches: Iterator[Sample],
    step: Step,
) -> None:
    """One optimiser step; adds its terms and times to the sums."""
    begun = time.perf_counter()
    batch = {name: value.to(fabric.device, non_blocking=True) for name, value in next(batches).items()}
    if run.config.channels_last:
        batch["image"] = batch["image"].to(memory_format=torch.channels_last_3d)
    waited = time.perf_counter() - begun
    terms = step(model, batch, Position(state.step // run.stage.iterations, state.step))
    stepper.zero_grad(set_to_none=True)
    fabric.backward(terms["loss"])
    fabric.clip_gradients(model, stepper, max_norm=run.stage.clip_norm, error_if_nonfinite=False)
    stepper.step()
    state.step += 1
    if state.average is not None:
        _update_average(state.average, state.network, run.stage.ema, state.step)
    times = {"seconds": torch.tensor(time.perf_counter() - begun), "loader_seconds": torch.tensor(waited)}
    for name, value in (terms | times).items():
        state.sums[name] = state.sums.get(name, torch.zeros(())) + value.detach().double()


def _finish_epoch(state: State, stage: Stage) -> None:
    """Turn the sums of the epoch that just ended into a row of means; times stay sums."""
    row = {"epoch": float(state.step // stage.iterations - 1), "lr": state.optimizer.param_groups[0]["lr"]}
    for name, total in state.sums.items():
        row[name] = float(total) if name.endswith("seconds") else float(total) / stage.iterations
    _refuse_infinite(state, int(row["epoch"]))
    state.history.append(row)
    state.sums = {}


def _refuse_infinite(state: State, epoch: int) -> None:
    """Raise RuntimeError where the running epoch's loss is NaN or infinite, before such weights are saved."""
    if not math.isfinite(float(state.sums.get("loss", 0.0))):
        raise RuntimeError(f"The loss was not finite in epoch {epoch}: start again with a lower rate")


def _loader(run: Run, dataset: Dataset[Sample], first_step: int, fabric: Fabric) -> DataLoader[Sample]:
    """All batches of the steps that remain, so that workers need no restart between epochs."""
    sampler = StepSampler(first_step, run.steps, run.stage.batch, fabric.global_rank, fabric.world_size)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=run.config.workers,
        worker_init_fn=loader_worker,
        prefetch_factor=4 if run.config.workers else None,
        pin_memory=fabric.device.type == "cuda",
        generator=torch.Generator(),  # a loader on the global one would change the dropout of a resumed run
    )


def _set_lr(optimizer: torch.optim.Optimizer, stage: Stage, epoch: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = stage.lr * (1.0 - epoch / stage.epochs) ** stage.poly_power


def _copy_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def _update_average(average: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average; young runs average over fewer steps, so that the start is forgotten."""
    decay = min(decay, (1.0 + step) / (10.0 + step))
    own = network.state_dict()
    torch._foreach_lerp_(list(average.values()), [own[name] for name in average], 1.0 - decay)


def _capture(run: Run, state: State, fabric: Fabric) -> Checkpoint:
    """Everything that export and a resumed run need, as tensors and plain values."""
    return {
        "format": FORMAT_VERSION,
        "stage": run.name,
        "complete": state.step == run.steps,
        "step": state.step,
        "config": config_to_dict(run.config),
        "facts": run.facts,
        "model": state.network.state_dict(),
        "average": state.average,
        "optimizer": state.optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),
        "rng": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
        "sums": {name: float(value) for name, value in state.sums.items()},
        "history": state.history,
    }


def _resume(run: Run, state: State, fabric: Fabric) -> None:
    """Load the run's checkpoint into the state. Raises ValueError where its settings are not the run's."""
    checkpoint = load_checkpoint(run.checkpoint)
    now = {"config": config_to_dict(run.config), "facts": run.facts}
    changed = differences({key: checkpoint[key] for key in now}, now)
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
    state.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in checkpoint["sums"].items()}
    torch.set_rng_state(checkpoint["rng"]["cpu"])
    if torch.cuda.is_available() and checkpoint["rng"]["cuda"]:
        torch.cuda.set_rng_state_all(checkpoint["rng"]["cuda"])
