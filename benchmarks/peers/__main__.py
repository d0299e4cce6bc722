"""One contender segments one CT, file to file, and measures itself.

    python -m benchmarks.peers NAME --bundle DIR --ct FILE --crop FILE --output DIR

It leaves the mask, `probability.mha` and `measured.json` in the output folder. benchmarks.compare makes the crop
and starts this command.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.contenders import CONTENDERS, measure
from benchmarks.peers.stages import ContenderJob

BEGIN = time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
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
