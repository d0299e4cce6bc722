"""One optimiser step, without a wait for the device, and its recording as a CUDA graph.

Host and device meet only where an epoch's sums are read: numbers that change from step to step are tensors on the
device. So a step can be recorded once and started again as a whole, which costs the host next to nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from lnq.inference.norm import channels_last
from training.data.dataset import Sample
from training.engine.run import State, TrainingRun
from training.method.step import Position, Step, position_at

WARM_UP = 3  # steps before the first recording, in which libraries choose their kernels and momentum begins


@dataclass(eq=False)
class Stepper:
    """Takes steps of one run: forward, losses, backward, clipping, update, averaged weights and sums."""

    run: TrainingRun
    state: State
    fabric: Fabric
    model: nn.Module
    optimizer: Any  # as Fabric wraps it
    step: Step
    problem: str = ""  # why steps are not recorded, where a GPU could do so

    def __call__(self, batch: Sample) -> None:
        """Take a step on this process's samples of the next batch."""
        self._take(*self._on_device(batch))

    def settle(self) -> None:
        """Have what follows on the device wait for the steps."""

    def _take(self, batch: Sample, position: Position) -> None:
        self._set_numbers()
        names = self._compute(batch, position)
        self._count(names)

    def _on_device(self, batch: Sample) -> tuple[Sample, Position]:
        """A batch and its position on the device. How samples are annotated is known on the host."""
        given = dict(batch)
        full = given.pop("full", torch.zeros(0, dtype=torch.bool)).tolist()
        device, state = self.fabric.device, self.state
        moved = {name: self._laid_out(name, value.to(device, non_blocking=True)) for name, value in given.items()}
        epoch = state.step // self.run.stage.iterations
        return moved, position_at(self.run.config, epoch, state.step, full, device)

    def _laid_out(self, name: str, value: Tensor) -> Tensor:
        if name == "image" and self.run.config.channels_last:
            return channels_last(value)
        return value

    def _set_numbers(self) -> None:
        """Write the step's rate, and how far the average moves, to where the device reads them."""
        stage, state = self.run.stage, self.state
        rate = stage.rate(state.step // stage.iterations)
        for group in state.optimizer.param_groups:
            group["lr"] = rate if state.rate is None else state.rate.fill_(rate)
        # Early on the average spans fewer steps, so that the initial weights fade.
        state.nearer.fill_(1.0 - min(stage.ema, (2.0 + state.step) / (11.0 + state.step)))

    def _compute(self, batch: Sample, position: Position) -> tuple[str, ...]:
        """All that a step does on the device. Returns the names of its terms."""
        state, stage = self.state, self.run.stage
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.step(self.model, batch, position)
        self.fabric.backward(terms["loss"])
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=stage.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        if state.average is not None:
            _update_average(state.average, state.network, state.nearer)
        for name, value in terms.items():
            state.sum_of(name).add_(value.detach())
        return tuple(terms)

    def _count(self, names: tuple[str, ...]) -> None:
        for name in names:
            self.state.counts[name] += 1
        self.state.step += 1


@torch.no_grad()
def _update_average(average: dict[str, Tensor], network: nn.Module, nearer: Tensor) -> None:
    """Move the averaged weights nearer to the network's, by a part of the way."""
    own = network.state_dict()
    torch._foreach_lerp_(list(average.values()), [own[name] for name in average], [nearer] * len(average))


class Recording(Protocol):
    """A step that was recorded: it computes with what its tensors hold when it is replayed."""

    def replay(self) -> None:
        """Compute the step again."""


Record = Callable[[Callable[[], None]], Recording]
"""Records what a function does on the device, without doing it."""


@dataclass(eq=False)
class RecordedStepper(Stepper):
    """Records a step as a CUDA graph once for each way in which the samples of a batch can be annotated.

    The first steps are taken as they come. Where recording fails, all are, and `problem` says why.
    """

    record: Record | None = None  # in tests; else a CUDA graph
    _stream: Any = None
    _taken: dict[tuple[bool, ...], int] = field(default_factory=dict)  # steps as they come, by annotation
    _recordings: dict[tuple[bool, ...], tuple[Recording, tuple[str, ...]]] = field(default_factory=dict)
    _batch: Sample = field(default_factory=dict)  # what recordings read
    _position: Position | None = None
    _pool: Any = None

    def __post_init__(self) -> None:
        if self.record is None:
            self._stream = torch.cuda.Stream(self.fabric.device)
            self._pool = torch.cuda.graph_pool_handle()
            self.record = self._cuda_graph

    def __call__(self, batch: Sample) -> None:
        with self._on_stream():
            moved, position = self._on_device(batch)
            way = position.full
            enough = sum(self._taken.values()) >= WARM_UP and way in self._taken
            if self.problem or not enough:
                self._take(moved, position)
                self._taken[way] = self._taken.get(way, 0) + 1
                return
            self._fill(moved, position)
            self._set_numbers()
            if way not in self._recordings and not self._recorded(position):
                self._take(moved, position)
                return
            recording, names = self._recordings[way]
            recording.replay()
            self._count(names)

    def settle(self) -> None:
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def _fill(self, batch: Sample, position: Position) -> None:
        """Copy what a step reads to where recordings read it."""
        if self._position is None:
            self._batch = {name: value.clone() for name, value in batch.items()}
            self._position = position
            return
        for name, value in batch.items():
            self._batch[name].copy_(value)
        self._position.mix.copy_(position.mix)
        self._position.weight.copy_(position.weight)

    def _recorded(self, now: Position) -> bool:
        """Record the step for a batch that is annotated like that of `now`; returns whether that was possible."""
        assert self._position is not None and self.record is not None
        position = dataclasses.replace(self._position, full=now.full, share=now.share)
        names: list[tuple[str, ...]] = []
        try:
            recording = self.record(lambda: names.append(self._compute(self._batch, position)))
        except RuntimeError as error:
            self.problem = (str(error).splitlines() or [type(error).__name__])[0]
            return False
        self._recordings[now.full] = recording, names[0]
        return True

    def _cuda_graph(self, work: Callable[[], None]) -> Recording:
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)  # so that gradients lie in the graph's own memory
        # "thread_local": meanwhile the loader's thread may pin memory, which a capture otherwise forbids to all threads
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph


def make_stepper(
    run: TrainingRun, state: State, fabric: Fabric, model: nn.Module, optimizer: Any, step: Step
) -> Stepper:
    """The stepper of a run, which records its steps where that can be."""
    given = run, state, fabric, model, optimizer, step
    if fabric.device.type != "cuda" or not run.config.graph:
        return Stepper(*given)
    if fabric.world_size > 1:
        return Stepper(*given, problem="several processes share each batch")
    if fabric.strategy.precision.precision == "16-mixed":
        return Stepper(*given, problem="with 16-mixed the host decides on each step")
    return RecordedStepper(*given)
