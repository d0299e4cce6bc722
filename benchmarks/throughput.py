"""How many CTs an hour a run over a folder does, beside one process per CT.

    python -m benchmarks.throughput CT... -o docs/results

`alone` is `process.py batch` once for each CT, one after the other, each start and report included; the others are one
run over all of them, with so many workers. They take turns. Writes throughput.csv and .md.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import caption
from benchmarks.peers.contender import versions
from lnq.files import replace_atomically, write_text

PROGRAM = Path(__file__).resolve().parent.parent / "process.py"
ALONE = "alone"


def seconds_of(commands: Sequence[Sequence[str]]) -> float:
    """How long commands take one after the other. Raises ValueError with the last words of one that fails."""
    start = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError((done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1])
    return time.perf_counter() - start


def commands_of(way: str, cts: Sequence[Path], output: Path, options: Sequence[str]) -> list[list[str]]:
    """What is run: `way` is ALONE or a number of workers."""
    program = [sys.executable, str(PROGRAM), "batch", "--quiet", *options]
    if way == ALONE:
        return [[*program, str(ct), "-o", str(output / str(number))] for number, ct in enumerate(cts)]
    return [[*program, *map(str, cts), "-o", str(output), "--workers", way]]


def report(count: int, times: dict[str, list[float]]) -> list[str]:
    """Lines of Markdown: medians, and how many times faster than alone."""
    median = {way: float(np.median(values)) for way, values in times.items()}
    lines = ["| run | median s | CTs an hour | times faster |", "| --- | ---: | ---: | ---: |"]
    for way, seconds in median.items():
        name = "a process per CT" if way == ALONE else f"one run, {way} worker{'' if way == '1' else 's'}"
        lines.append(f"| {name} | {seconds:.1f} | {3600 * count / seconds:.0f} | {median[ALONE] / seconds:.2f} |")
    return [*lines, "", f"{count} CTs, each way {len(times[ALONE])} times.", ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("cts", type=Path, nargs="+", metavar="CT")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="model")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    times: dict[str, list[float]] = {way: [] for way in (ALONE, *map(str, options.workers))}
    for _ in range(options.repeats):
        for way, own in times.items():
            with tempfile.TemporaryDirectory(prefix="lnq-throughput-") as folder:
                try:
                    own.append(seconds_of(commands_of(way, options.cts, Path(folder), ["--model", options.model])))
                except ValueError as error:
                    print(f"Error: {error}", file=sys.stderr)
                    return 2
            print(f"{way}: {own[-1]:.1f} s", file=sys.stderr)
    with replace_atomically(options.output / "throughput.csv") as part, open(part, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(times)
        writer.writerows([f"{value:.2f}" for value in row] for row in zip(*times.values(), strict=True))
    lines = ["# Throughput", "", *caption("benchmarks.throughput", arguments, versions())]
    text = "\n".join([*lines, *report(len(options.cts), times)])
    write_text(options.output / "throughput.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
