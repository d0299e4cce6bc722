"""The settings of a run's worker processes, and the limits of a case."""

from __future__ import annotations

from dataclasses import dataclass, field

from lnq.archive.case import Subject
from lnq.errors import Message
from lnq.results.case_record import ResultOptions


@dataclass(frozen=True)
class WorkerSettings:
    """All that a worker process needs to know, as plain values."""

    output: str  # path of the output folder
    bundle: str  # path of the model bundle
    device: str = "auto"
    threads: int = 0  # CPU threads of the network; 0 for all that may be used
    precision: str = "f32"  # of the network on a CPU
    mirror: int | None = None  # replaces the bundle's value where given
    members: int | None = None  # how many of the bundle's networks are run; None for all
    truth: str | None = None  # path of a folder with masks that are named like their cases
    private: bool = False  # results and messages show no path or file name
    umask: int | None = None  # of the worker's process; None for that of the run
    run: str = "run"  # name of this run's work folder
    options: ResultOptions = field(default_factory=ResultOptions)

    def said(self, message: Message, about: Subject) -> str:
        """The text of a message in results and on the terminal: without names and paths where these are private."""
        return message.without_names(about.name) if self.private else str(message)


@dataclass(frozen=True)
class CaseLimits:
    """The most that one case may take. 0 means no limit."""

    seconds: float = 0.0
    memory_gb: float = 0.0  # 1e9 bytes of the worker process, including the model
