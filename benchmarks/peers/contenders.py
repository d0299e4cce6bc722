"""Who can be compared, and how a contender runs and measures itself within one process."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from benchmarks.peers.stages import STAGES, ContenderJob, ContenderOutcome, Stages, peak_memory

OURS = "lnq"
PEERS = ("monai", "nnunet", "nnunet-mirror")
CONTENDERS = (OURS, *PEERS, "reference")
MEASURED, PROBABILITY = "measured.json", "probability.mha"  # files that a contender leaves beside its mask
PACKAGES = ("numpy", "scipy", "SimpleITK", "openvino", "torch", "monai", "nnunetv2")


def run_contender(name: str, job: ContenderJob, stages: Stages) -> ContenderOutcome:
    """Let a contender work. Each imports what it needs here, for that is part of its start.

    Raises ValueError for a name that is not in CONTENDERS.
    """
    match name:
        case "lnq":
            from benchmarks.peers.run_lnq import run_lnq

            return run_lnq(job, stages)
        case "monai":
            from benchmarks.peers.run_monai import run_monai

            return run_monai(job, stages)
        case "nnunet" | "nnunet-mirror":
            os.environ["nnUNet_def_n_proc"] = str(os.cpu_count())  # noqa: SIM112 - the default is at most 8 threads
            from benchmarks.peers.run_nnunet import run_nnunet

            return run_nnunet(job, stages, mirror=name == "nnunet-mirror")
        case "reference":
            from benchmarks.peers.run_reference import run_reference

            return run_reference(job, stages)
    raise ValueError(f"A contender is one of {', '.join(CONTENDERS)}, not {name!r}")


def measure(name: str, job: ContenderJob, started: float) -> dict[str, Any]:
    """Run a contender, write its probability and what was measured into the job's output, and return the latter.

    `started`: `time.monotonic()` when this process was started. The probability is that of node, float32 on the crop's
    grid. Writing it is neither timed nor part of the memory.
    """
    stages = Stages(started)
    result = run_contender(name, job, stages)
    measured = {
        "contender": name,
        "seconds": {stage: stages.seconds[stage] for stage in STAGES if stage in stages.seconds},
        "total_s": stages.total(),
        "cpu_outside": stages.cpu_share_outside_network(),
        "windows": result.windows,
        "base_bytes": stages.base_bytes,
        "peak_bytes": peak_memory(),
        "mask": result.mask.name if result.mask else None,
        "versions": versions(),
    }
    if result.probability is not None:
        from lnq.image.itk import write_volume

        write_volume(result.probability(), job.output / PROBABILITY, compress=False)
    (job.output / MEASURED).write_text(json.dumps(measured, indent=2) + "\n")
    return measured


def versions() -> dict[str, str]:
    """Versions of Python and of those installed packages that contenders use."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
