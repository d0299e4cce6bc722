"""What a run's worker processes are told, and the limits of a case."""

from __future__ import annotations

from dataclasses import dataclass, field

from lnq.archive.case import Subject
from lnq.errors import Message
from lnq.results.case_record import ResultOptions


@dataclass(frozen=True)
class WorkerSettings:
    """All that a worker process needs to know, as plain values."""

    output: str
    bundle: str
    device: str = "auto"
    threads: int = 0  # of the network on a CPU; 0: all that may be used
    precision: str = "f32"  # of the network on a CPU
    mirror: int | None = None  # instead of the bundle's
    truth: str | None = None  # a folder of masks named as their cases
    private: bool = False  # no path or file name in what is written
    options: ResultOptions = field(default_factory=ResultOptions)

    def said(self, message: Message, about: Subject) -> str:
        """A message as results and terminals show it: with names and paths, or where these are private without."""
        return message.without_names(about.name) if self.private else str(message)


@dataclass(frozen=True)
class CaseLimits:
    """What one case may take; 0: no limit."""

    seconds: float = 0.0
    memory_gb: float = 0.0  # of the worker process, model included
