"""The caption of a result: the command, and the machine that it ran on."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lnq.inference.backends import available_cpus


def cpu_model() -> str:
    """The processor's name, or its architecture on a system that does not tell the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_gib() -> float:
    """The machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def caption(module: str, arguments: Sequence[str] | None, versions: Mapping[str, str], device: str = "") -> list[str]:
    """Lines of Markdown: the command, the machine, the date and the versions.

    arguments: of the command, None for those of this process. device: what computed, where it was not the CPU alone.
    """
    words = sys.argv[1:] if arguments is None else arguments
    return [
        "```",
        f"python -m {module} {shlex.join(str(word) for word in words)}",
        "```",
        "",
        (f"{device}; " if device else "")
        + f"{cpu_model()}, {available_cpus()} CPUs, {memory_gib():.0f} GiB, {datetime.now(UTC):%d %B %Y}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
    ]
