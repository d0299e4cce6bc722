"""Time and memory of a training step on this machine's device, and what the time is spent on.

    python -m benchmarks.training_step --preset paper --data PREPARED -o docs/results

The real loop of fine-tuning and pre-training, with its loader, takes some steps with each way to run the network.
Writes training-step-PRESET.md and .csv.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from unittest.mock import patch

import torch
import tyro

from benchmarks.machine import caption
from benchmarks.output import MIB, markdown_table, write_csv
from lnq.files import write_text
from training.command import STOPPED
from training.config import COMPACT, Config, ConfigArguments, Stage, parse
from training.data.dataset import Sample
from training.engine import loop
from training.engine.active import ActiveRun
from training.engine.finetuning import Wanted, finetune, finetune_together
from training.engine.machine import environment
from training.engine.pretraining import pretrain

# Ways to take a step, as changes of the configuration.
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"channels_last": False, "graph": False},
    "channels-last": {"channels_last": True, "graph": False},
    "graph": {"channels_last": False, "graph": True},
    "channels-last, graph": {"channels_last": True, "graph": True},
    "compile, channels-last": {"compile": True, "channels_last": True, "graph": False},
    "compile, channels-last, graph": {"compile": True, "channels_last": True, "graph": True},
}
# What a kernel is for: the first kind counts whose pattern is found in the kernel's name in lower case.
KINDS = {
    "fused by the compiler": r"^triton_",
    "optimiser, clipping and averaged weights": r"multi_tensor|foreach",
    "copies, casts and changes of memory layout": r"memcpy|memset|copy|nchwto|tonchw|converttensor",
    "convolutions": r"conv|gemm|cutlass|xmma|wgrad|dgrad|fprop|implicit|nvjet",
    "norms": r"norm|welford",
}
REST = "other elementwise and sums"  # the kind of all other kernels
PROFILED = 5  # steps that are profiled, after the timed ones


@dataclass(frozen=True)
class TrainingStep:
    """Time training steps on prepared cases."""

    data: Path  # folder that training.prepare wrote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    steps: int = 50  # timed steps, at least 1
    warm_up: int = 15  # steps before them, in which loader and compiler start and convolutions are chosen
    ways: tuple[str, ...] = tuple(WAYS)
    together: int = 1  # runs of fine-tuning that one process takes side by side
    stages: tuple[Literal["finetune", "pretrain"], ...] = ("finetune", "pretrain")
    preset: str = "compact"  # paper, compact or tiny
    config: ConfigArguments = COMPACT


@dataclass
class TimedSteps:
    """What was measured of some steps of one stage with one way to run the network."""

    stage: str
    way: str
    ms: list[float] = field(default_factory=list)  # from the start of each step to that of the next
    waited_ms: list[float] = field(default_factory=list)  # the part of `ms` that was spent waiting for the loader
    start_s: float = 0.0  # from the first step to the end of the warm-up
    peak_bytes: int = 0  # highest memory on the device; 0 on a CPU, where earlier runs would count too
    kernels_ms: dict[str, float] = field(default_factory=dict)  # per profiled step, by the kernel's name
    error: str = ""  # why the steps could not be run

    @property
    def step_ms(self) -> float:
        """Mean over the timed steps, which is what counts in a long run."""
        return sum(self.ms) / len(self.ms)

    @property
    def waiting(self) -> float:
        """Part of the time in which the loop waited for the loader."""
        return sum(self.waited_ms) / sum(self.ms)

    def by_kind(self) -> dict[str, float]:
        """Milliseconds per step that the device's kernels take, by what they are for."""
        kinds = dict.fromkeys([*KINDS, REST], 0.0)
        for name, ms in self.kernels_ms.items():
            kinds[kind_of(name)] += ms
        return kinds


def kind_of(kernel: str) -> str:
    """What a kernel is for, by its name."""
    name = kernel.lower()
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), REST)


class Stopwatch:
    """Takes the place of the loop's `_step`: it calls it, times it and profiles some steps.

    The loop saves a checkpoint after its last step, so one more step follows those that are profiled.
    """

    def __init__(self, timing: TimedSteps, warm_up: int, steps: int) -> None:
        self.timing, self.first, self.last = timing, warm_up, warm_up + steps
        self.end = self.last + PROFILED
        self._step, self._begun = loop._step, 0.0
        self._profile: Any = None
        self._of: ActiveRun | None = None

    def __call__(self, active: ActiveRun, batch: Sample, waited: float) -> None:
        self._of = self._of or active
        if active is not self._of:  # a step of all runs side by side counts as one
            self._step(active, batch, waited)
            return
        number, cuda = active.state.step, active.fabric.device.type == "cuda"
        if number in (0, self.first, self.last, self.end) and cuda:
            torch.cuda.synchronize()  # else work of earlier steps would count as that of the steps that follow
        now = time.perf_counter()
        if number == 0:
            self._zero = now
        elif number == self.first:
            self.timing.start_s = now - self._zero
        elif number <= self.last:
            if number > self.first:
                self.timing.ms.append(1000 * (now - self._begun))
                self.timing.waited_ms.append(1000 * waited)
            if number == self.last:
                self.timing.peak_bytes = torch.cuda.max_memory_allocated() if cuda else 0
                self._profile = _profiler(cuda)
                self._profile.start()
        elif number == self.end:
            self._profile.stop()
            self._read_profile(cuda)
        self._begun = now
        self._step(active, batch, waited)

    def _read_profile(self, cuda: bool) -> None:
        for event in self._profile.key_averages():
            own_us = event.self_device_time_total if cuda else event.self_cpu_time_total
            if own_us and not event.is_user_annotation and (event.device_type.name == "CUDA") == cuda:
                self.timing.kernels_ms[event.key] = own_us / 1000 / PROFILED


def _profiler(cuda: bool) -> Any:
    activities = torch.profiler.ProfilerActivity
    return torch.profiler.profile(activities=[activities.CPU, *([activities.CUDA] if cuda else [])])


def time_steps(command: TrainingStep, stage_name: str, way: str) -> TimedSteps:
    """Run a stage one way. If it fails, `error` says why. Raises KeyboardInterrupt where it was stopped."""
    timing = TimedSteps(stage_name, way)
    iterations = command.warm_up + command.steps + PROFILED + 1
    stage: Stage = dataclasses.replace(getattr(command.config, stage_name), epochs=1, iterations=iterations)
    changes = {stage_name: stage, "picture_every": 0, **WAYS[way]}
    config: Config = dataclasses.replace(command.config, **changes)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.compiler.reset()
    stopwatch = Stopwatch(timing, command.warm_up, command.steps)
    with tempfile.TemporaryDirectory(prefix="lnq-step-") as folder, patch.object(loop, "_step", stopwatch):
        try:
            if not _train(command, stage_name, config, Path(folder)):
                raise KeyboardInterrupt
        except (RuntimeError, torch.OutOfMemoryError) as error:
            timing.error = (str(error).splitlines() or [type(error).__name__])[0]
    return timing


def _train(command: TrainingStep, stage_name: str, config: Config, folder: Path) -> bool:
    """Train one run, or several side by side; returns False where a signal stopped it."""
    if stage_name == "pretrain":
        return pretrain(command.data, folder, config)
    if command.together == 1:
        return finetune(command.data, folder, config)
    outcomes = finetune_together(
        command.data, [Wanted(folder / str(number), config) for number in range(command.together)]
    )
    failed = [one for one in outcomes if isinstance(one, Exception)]
    if failed:
        raise failed[0]
    return all(outcomes)


def step_table(results: Sequence[TimedSteps]) -> list[str]:
    """Lines of Markdown: a row per stage and way."""
    rows = []
    for one in results:
        if one.error:
            rows.append((one.stage, one.way, one.error, "", "", ""))
            continue
        peak = f"{one.peak_bytes / MIB:.0f}" if one.peak_bytes else "-"
        rows.append((one.stage, one.way, f"{one.step_ms:.1f}", f"{one.waiting:.1%}", peak, f"{one.start_s:.1f}"))
    head = ("stage", "network", "ms a step", "of it waiting for the loader", "peak MiB", "warm-up s")
    return markdown_table(head, rows, left=2)


def profile_table(results: Sequence[TimedSteps]) -> list[str]:
    """Lines of Markdown: a column per run, a row per kind of kernel."""
    done = [one for one in results if not one.error]
    kinds = [one.by_kind() for one in done]
    rows = [(kind, *(f"{own[kind]:.1f}" for own in kinds)) for kind in [*KINDS, REST]]
    rows.append(("all kernels", *(f"{sum(own.values()):.1f}" for own in kinds)))
    return markdown_table(("ms a step", *(f"{one.stage}, {one.way}" for one in done)), rows)


def write(folder: Path, name: str, results: Sequence[TimedSteps], head: Sequence[str]) -> None:
    """Write the Markdown, and a CSV with each run's longest kernels. `head`: first lines of the Markdown."""
    text = [*head, *step_table(results), f"What the device does, from a profile of {PROFILED} further steps:", ""]
    write_text(folder / f"{name}.md", "\n".join([*text, *profile_table(results)]))
    rows = (
        (one.stage, one.way, kernel[:120], kind_of(kernel), f"{ms:.3f}")
        for one in results
        for kernel, ms in sorted(one.kernels_ms.items(), key=lambda item: -item[1])[:20]
    )
    write_csv(folder / f"{name}.csv", ("stage", "network", "kernel", "kind", "ms_a_step"), rows)


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status."""
    command = parse(TrainingStep, arguments)
    unknown = [way for way in command.ways if way not in WAYS]
    if unknown or min(command.steps, command.warm_up, command.together) < 1:
        reason = (
            f"A way is one of {'; '.join(WAYS)}, not {unknown[0]!r}"
            if unknown
            else "Steps, warm-up and runs together must be at least 1"
        )
        print(f"Error: {reason}", file=sys.stderr)
        return 2
    facts = environment()
    versions = {name: facts[name] for name in ("python", "torch", "lightning")}
    head = [f"# A training step of preset {command.preset}", ""]
    head += caption("benchmarks.training_step", arguments, versions, facts["device"])
    several = f"-{command.together}-together" if command.together > 1 else ""
    results = []
    try:
        command.output.mkdir(parents=True, exist_ok=True)
        for stage in command.stages:
            for way in command.ways:
                results.append(time_steps(command, stage, way))
                print(step_table(results)[-2], file=sys.stderr, flush=True)
                write(command.output, f"training-step-{command.preset}{several}", results, head)  # a later one may hang
    except KeyboardInterrupt:
        return STOPPED
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return int(any(one.error for one in results))


if __name__ == "__main__":
    sys.exit(main())
