"""Starts a contender in a process of its own and reads what it measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.contenders import CONTENDERS, MEASURED, PEERS
from benchmarks.peers.stages import ContenderJob

MALLOC = "+malloc"  # at the end of a peer's name, asks for MALLOC_SETTINGS
# glibc keeps freed memory. torch on a CPU is up to 1.8 x faster with it, because it allocates each layer's output anew.
MALLOC_SETTINGS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


@dataclass(frozen=True)
class ContenderRun:
    """What one contender measured on one CT, once."""

    contender: str
    case: str
    repeat: int
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    total_s: float = 0.0
    cpu_outside: float = 0.0  # part of the CPU time after the start that is not the network's
    windows: int = 0
    base_bytes: int = 0
    peak_bytes: int = 0
    mask: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    error: str | None = None  # why the run failed, as one sentence; then no figure counts

    @property
    def work_s(self) -> float:
        """Seconds without the start."""
        return self.total_s - self.seconds.get("start", 0.0)


def check_name(name: str) -> str:
    """A contender's name without MALLOC. Raises ValueError for an unknown one, and for MALLOC where it is no peer."""
    plain = name.removesuffix(MALLOC)
    if plain not in CONTENDERS:
        raise ValueError(f"A contender is one of {', '.join(CONTENDERS)}, not {plain!r}")
    if name != plain and plain not in PEERS:
        raise ValueError(f"Settings of malloc are for {', '.join(PEERS)}, not for {plain}")
    return plain


def launch(name: str, case: str, repeat: int, job: ContenderJob, timeout_s: float = 7200.0) -> ContenderRun:
    """Run a contender once. A run that failed says why in its `error`. Raises ValueError as `check_name` does."""
    plain = check_name(name)
    environment = os.environ | (MALLOC_SETTINGS if name != plain else {})
    files = ("--bundle", job.bundle, "--ct", job.ct, "--crop", job.crop, "--output", job.output)
    command = [sys.executable, "-m", "benchmarks.peers", plain, *map(str, files)]
    command += ["--started", repr(time.monotonic())]
    try:
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, cwd=root)
    except subprocess.TimeoutExpired:
        return ContenderRun(name, case, repeat, error=f"not done after {timeout_s:.0f} s")
    if done.returncode:
        return ContenderRun(name, case, repeat, error=failure(done.returncode, done.stderr))
    measured: dict[str, Any] = json.loads((job.output / MEASURED).read_text())
    del measured["contender"]
    return ContenderRun(name, case, repeat, **measured)


def failure(status: int, stderr: str) -> str:
    """Why a process failed, as one sentence."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}, which is often for want of memory"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"ended with status {status}"
