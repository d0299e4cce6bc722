"""The machine that a run uses: processes, memory settings, signals, loader workers, and a description of it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Literal

import torch

from lnq.inference.backends import available_cpus
from training.commit import git_commit

# Parameters of glibc's mallopt, from malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def tune_cpu_memory() -> None:
    """Let malloc keep freed memory, which makes steps on a CPU 1.8 times faster. Only glibc has this setting."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20)):
        mallopt(parameter, value)


def process_layout(devices: int) -> tuple[int, int]:
    """Number of processes per node, and of nodes.

    These are torchrun's where it started this process, else `devices` on this node alone. Raises ValueError where the
    node has fewer GPUs, or where Slurm would run independent copies of the run.
    """
    per_node, nodes = devices, 1
    if torch.distributed.is_torchelastic_launched():
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // per_node
    elif devices > 1 and "SLURM_JOB_ID" in os.environ:
        raise ValueError("Under Slurm start several processes with torchrun, not with --devices (docs/training.md)")
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        raise ValueError("srun started several copies of one run: let it start torchrun once per node")
    gpus = torch.cuda.device_count()
    if gpus and per_node > gpus:
        raise ValueError(f"{per_node} processes need as many GPUs, and this node has {gpus}")
    return per_node, nodes


def choose_precision() -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """The fastest precision for the device. bf16 on a CPU without AVX-512-BF16 or AMX is hundreds of times slower."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def loader_processes(wanted: int, device: torch.device) -> int:
    """How many loader processes to start: as many as wanted, or where that is negative what suits the device.

    A GPU takes patches faster than a few cores make them, so all cores but one do. A CPU's cores are for the steps.
    """
    if wanted >= 0:
        return wanted
    return max(1, available_cpus() - 1) if device.type == "cuda" else 1


def loader_worker(_worker: int) -> None:
    """Set up a loader process: one thread, and no reaction to signals. The training process ends it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class StopSignal:
    """Within this context the first SIGTERM or SIGINT only sets `received`; a second one acts as usual."""

    def __init__(self) -> None:
        self.received = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._before[number] = signal.signal(number, self._receive)
            except ValueError:  # only the main thread can catch signals
                break
        return self

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._restore()


def environment() -> dict[str, str]:
    """Git commit, versions of packages and machine, for config.json and the model's provenance."""
    packages = ("torch", "lightning", "numpy", "batchgeneratorsv2", "blosc2")
    facts = {"commit": git_commit(), "python": platform.python_version(), "machine": platform.machine()}
    facts |= {name: importlib.metadata.version(name) for name in packages}
    facts["device"] = (
        torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    )
    return facts
