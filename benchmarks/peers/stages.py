"""What a contender is given, what it leaves, and what it measures of itself: time by stage and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:  # what a contender needs is imported while it is measured, so not here
    from lnq.image.volume import Volume

P = ParamSpec("P")
R = TypeVar("R")
STAGES = ("start", "read", "crop", "preprocess", "network", "postprocess", "write")


@dataclass(frozen=True)
class ContenderJob:
    """What a contender is to segment, and where it writes."""

    bundle: Path
    ct: Path  # the whole CT
    crop: Path  # the lungs' box of it
    output: Path  # a folder


@dataclass(frozen=True, eq=False)
class ContenderOutcome:
    """What a contender leaves behind."""

    mask: Path | None  # None where there is no network
    windows: int  # calls of the network
    probability: Callable[[], Volume] | None  # of node, on the crop's grid; called after the measuring


@dataclass
class Stages:
    """Seconds by stage of this process."""

    started: float  # time.monotonic() when this process was started
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)  # CPU time of all threads, by stage
    base_bytes: int = 0  # highest memory until the model was loaded
    _cpu_at_start: float = 0.0

    def ready(self) -> None:
        """End the stage "start": packages are imported, and the model is loaded."""
        self.seconds["start"] = time.monotonic() - self.started
        self.base_bytes = peak_memory()
        self._cpu_at_start = time.process_time()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of what is done within for a stage."""
        start, cpu_start = time.monotonic(), time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start
        self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + time.process_time() - cpu_start

    def timed(self, stage: str, function: Callable[P, R]) -> Callable[P, R]:
        """The same function, whose time counts for a stage."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self(stage):
                return function(*args, **kwargs)

        return call

    def total(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self.started

    def cpu_share_outside_network(self) -> float:
        """Part of the CPU time since `ready` that was spent outside the network."""
        return 1 - self.cpu_seconds.get("network", 0.0) / (time.process_time() - self._cpu_at_start)


def peak_memory() -> int:
    """Highest resident memory of this process so far, in bytes.

    Linux's own record for this program is preferred, because `ru_maxrss` counts what the parent held when it forked.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
