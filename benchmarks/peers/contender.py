"""One contender segments one CT, file to file, and measures itself.

    python -m benchmarks.peers.contender NAME --bundle DIR --ct FILE --crop FILE --output DIR

Leaves the mask, `probability.mha` (of node, float32, on the crop's grid; neither timed nor in the memory) and
`measured.json`. benchmarks.compare starts this and makes the crop.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.stages import STAGES, ContenderJob, ContenderOutcome, Stages, peak_memory

BEGIN = time.monotonic()
OURS = "lnq"
PEERS = ("monai", "nnunet", "nnunet-mirror")
CONTENDERS = (OURS, *PEERS, "reference")
MEASURED, PROBABILITY = "measured.json", "probability.mha"
PACKAGES = ("numpy", "scipy", "SimpleITK", "openvino", "torch", "monai", "nnunetv2")


def run(name: str, job: ContenderJob, stages: Stages) -> ContenderOutcome:
    """Let a contender work. Each imports what it needs itself, for that is part of its start."""
    match name:
        case "lnq":
            from benchmarks.peers.run_lnq import run_lnq

            return run_lnq(job, stages)
        case "monai":
            from benchmarks.peers.run_monai import run_monai

            return run_monai(job, stages)
        case "nnunet" | "nnunet-mirror":
            os.environ["nnUNet_def_n_proc"] = str(os.cpu_count())  # noqa: SIM112 - else it takes no more than 8 threads
            from benchmarks.peers.run_nnunet import run_nnunet

            return run_nnunet(job, stages, mirror=name == "nnunet-mirror")
        case "reference":
            from benchmarks.peers.run_reference import run_reference

            return run_reference(job, stages)
    raise ValueError(f"A contender is one of {', '.join(CONTENDERS)}, not {name!r}")


def measure(name: str, job: ContenderJob, started: float) -> dict[str, Any]:
    """Run a contender and write what it leaves behind; returns what was measured."""
    stages = Stages(started)
    outcome = run(name, job, stages)
    measured = {
        "contender": name,
        "seconds": {stage: stages.seconds[stage] for stage in STAGES if stage in stages.seconds},
        "total_s": stages.total(),
        "cpu_outside": stages.cpu_share_outside_network(),
        "windows": outcome.windows,
        "base_bytes": stages.base_bytes,
        "peak_bytes": peak_memory(),
        "mask": outcome.mask.name if outcome.mask else None,
        "versions": versions(),
    }
    if outcome.probability is not None:
        from lnq.image.itk import write_volume

        write_volume(outcome.probability(), job.output / PROBABILITY, compress=False)
    (job.output / MEASURED).write_text(json.dumps(measured, indent=2) + "\n")
    return measured


def versions() -> dict[str, str]:
    """Of Python and of the installed packages that contenders use."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.contender", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--ct", type=Path, required=True)
    parser.add_argument("--crop", type=Path, required=True, help="the lungs' box of the CT, what the peers get")
    parser.add_argument("--output", type=Path, required=True, help="a folder (made if absent)")
    parser.add_argument("--started", type=float, default=BEGIN, help="time.monotonic() when this process was started")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    job = ContenderJob(options.bundle, options.ct, options.crop, options.output)
    try:
        measured = measure(options.name, job, options.started)
    except Exception as error:
        reason = " ".join(str(error).split())
        print(f"{type(error).__name__}: {reason}", file=sys.stderr)
        return 1
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in measured["seconds"].items())
    print(f"{options.name}: {measured['total_s']:.2f} s ({stages}), {measured['peak_bytes'] / 2**20:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
