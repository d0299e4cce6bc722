"""A run in progress: its network, its state, and what it writes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from lnq.plain import to_plain
from training.data.dataset import Sample
from training.engine.checkpoint import remove_unfinished, save_checkpoint
from training.engine.distributed import gather
from training.engine.machine import choose_precision, process_layout, tune_cpu_memory
from training.engine.picture import Look
from training.engine.record import Record, write_config
from training.engine.run import State, TrainingRun, capture, resume
from training.engine.stepper import make_stepper
from training.method.step import Step


class LossNotFiniteError(RuntimeError):
    """The loss of an epoch is NaN or infinite. The message is one sentence."""


@dataclass(frozen=True, eq=False)
class Job:
    """A run to take: its settings and facts, a new network, and its step.

    `look` draws the network's output on one fixed patch for the picture of the progress.
    """

    run: TrainingRun
    network: nn.Module
    step: Step
    look: Look | None = None


class ActiveRun:
    """A job that was started or resumed. `error` says why it ended early.

    Several in one process have random generators of their own, as if each had the process to itself.
    """

    def __init__(self, job: Job, alone: bool = True) -> None:
        self.job, self.run = job, job.run
        self.error: Exception | None = None
        self.fabric, model, optimizer, self.state = _start(job.run, job.network)
        self.stepper = make_stepper(job.run, self.state, self.fabric, model, optimizer, job.step)
        self._generators = None if alone else _generators(self.fabric.device)
        self._told = ""
        self._begun: float | None = None

    @property
    def going(self) -> bool:
        """Whether there are steps left to take."""
        return self.error is None and self.state.step < self.run.steps

    @property
    def epoch(self) -> int:
        """The number of the running epoch, from 0."""
        return self.state.step // self.run.stage.iterations

    @property
    def at_end_of_epoch(self) -> bool:
        """Whether the last step was the last one of its epoch."""
        return self.state.step % self.run.stage.iterations == 0

    def record(self) -> AbstractContextManager[Record | None]:
        """What the run writes beside its checkpoint; None in all processes but one."""
        history = len(self.state.history)
        return Record(self.run.output, self.run.name, history) if self.fabric.is_global_zero else nullcontext()

    def take(self, batch: Sample, waited: float) -> None:
        """Take a step on this process's samples. `waited`: seconds that they took to come."""
        if self._begun is None:
            self._begun = time.perf_counter() - waited
        with self._own_generators():
            self.stepper(batch)
        self.state.add_time("loader_seconds", waited)

    def news(self) -> str:
        """A sentence on how steps are taken where that has changed, once; else empty."""
        reason = self.stepper.problem
        if reason == self._told:
            return ""
        self._told = reason
        return f"Steps are not recorded as a CUDA graph: {reason}"

    @contextmanager
    def _own_generators(self) -> Iterator[None]:
        """Give the generators this run's states meanwhile, where it is not alone."""
        if self._generators is None:
            yield
            return
        _swap(self._generators, self.fabric.device)
        try:
            yield
        finally:
            _swap(self._generators, self.fabric.device)

    def mean_loss(self) -> float:
        """Mean loss of the epoch so far. Waits for the device."""
        self.stepper.settle()
        return float(self.state.sums["loss"]) / self.state.counts["loss"]

    def pause(self) -> None:
        """Wait for the device, and add the time since the last pause to the epoch's.

        Raises LossNotFiniteError where the epoch's loss is NaN or infinite, before such weights are saved.
        """
        loss = self.mean_loss()
        if self._begun is not None:
            self.state.add_time("seconds", time.perf_counter() - self._begun)
            self._begun = None
        if not math.isfinite(loss):
            epoch = (self.state.step - 1) // self.run.stage.iterations
            raise LossNotFiniteError(f"The loss was not finite in epoch {epoch}: start again with a lower rate")

    def finish_epoch(self) -> dict[str, float]:
        """Turn the sums into a row of the history, and return it: means over the steps, but sums of times."""
        epoch = self.state.step // self.run.stage.iterations - 1
        row = {"epoch": float(epoch), "lr": self.run.stage.rate(epoch)}
        for name, (total, count) in self.state.read_sums().items():
            row[name] = total if name.endswith("seconds") else total / count
        self.state.history.append(row)
        self.state.begin_epoch()
        return row

    def save(self, record: Record | None) -> None:
        """Let process 0 record a finished epoch and replace the checkpoint. On failure all processes raise OSError.

        The checkpoint comes last. An epoch that was recorded but not saved is then recorded again.
        """
        with self._own_generators():
            checkpoint = capture(self.run, self.state, self.fabric)
        problem = ""
        if record is not None:
            try:
                if not self.state.counts:
                    self._record_epoch(record)
                save_checkpoint(self.run.checkpoint, checkpoint)
            except OSError as error:
                problem = str(error)
        problem = self.fabric.broadcast(problem)
        if problem:
            raise OSError(problem)

    def _record_epoch(self, record: Record) -> None:
        """Add the last epoch to metrics.csv and TensorBoard, and draw the progress picture when it is due."""
        done, every = len(self.state.history), self.run.config.picture_every
        panels = None
        if every and (done % every == 0 or done in (1, self.run.stage.epochs)):
            network = self.state.network.eval()
            with self.fabric.autocast():
                panels = self.job.look(network) if self.job.look is not None else []
            network.train()
        record.epoch(self.state.history, panels)


def _start(run: TrainingRun, network: nn.Module) -> tuple[Fabric, nn.Module, Any, State]:
    """Set up machine, network and optimiser, new or from the run's checkpoint, and write config.json."""
    config, stage = run.config, run.stage
    precision = choose_precision() if config.precision == "auto" else config.precision
    fabric = _launch(run, precision)
    if fabric.device.type == "cpu":
        tune_cpu_memory()
    torch.backends.cudnn.benchmark = True  # finds the fastest convolutions once, as all patches have one size
    network = network.to(fabric.device)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    # A GPU's fused update reads the rate from the device. A CPU's rate is a number.
    rate = torch.full((), stage.lr, device=fabric.device) if fabric.device.type == "cuda" else None
    optimizer = torch.optim.SGD(
        network.parameters(),
        stage.lr if rate is None else rate,
        stage.momentum,
        weight_decay=stage.weight_decay,
        nesterov=True,
        fused=True if rate is not None else None,
    )
    forward: nn.Module = network
    if config.compile:
        forward = torch.compile(network)  # type: ignore[assignment]  # shares the weights
    model, stepper = fabric.setup(forward, optimizer)
    network.train()
    state = State(network, optimizer, _copy_weights(network) if stage.ema > 0 else None, fabric.device, rate)
    torch.manual_seed(config.seed + fabric.global_rank)  # each process has its own dropout
    run.output.mkdir(parents=True, exist_ok=True)
    if run.checkpoint.is_file():
        resume(run, state, fabric)
    if len(set(gather(torch.tensor(state.step), fabric.device).tolist())) > 1:
        raise ValueError(f"Not all processes find {run.checkpoint}: the output folder must be one that all nodes share")
    if fabric.is_global_zero:
        remove_unfinished(run.output)
        given = {**to_plain(run.facts), "precision": precision, "processes": fabric.world_size}
        write_config(run.output, run.name, to_plain(config), given, state.environment)
    return fabric, model, stepper, state


def _launch(run: TrainingRun, precision: Any) -> Fabric:
    """Join the run as one of its processes. With `devices` above 1 and no torchrun, start the others too."""
    per_node, nodes = process_layout(run.config.devices)
    strategy = "ddp" if per_node * nodes > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=per_node, num_nodes=nodes, strategy=strategy, precision=precision)
    fabric.launch()
    if run.stage.batch % fabric.world_size:
        sentence = f"A batch of {run.stage.batch} cannot be shared out evenly to {fabric.world_size} processes"
        raise ValueError(sentence)
    if run.config.threads:
        torch.set_num_threads(run.config.threads)
    return fabric


def _copy_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _generators(device: torch.device) -> list[Tensor]:
    """The states of the CPU's random generator and, on a GPU, of its own."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _swap(kept: list[Tensor], device: torch.device) -> None:
    """Give the generators the kept states, and keep theirs."""
    now = _generators(device)
    torch.set_rng_state(kept[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(kept[1], device)
    kept[:] = now
