"""How many CTs an hour one run over many CTs segments, beside one process per CT.

    python -m benchmarks.throughput CT... -o docs/results

`alone` is `process.py batch` once for each CT, one after the other, so every start and report counts. Each other way
is one run over all CTs with a number of workers. The ways take turns. Writes throughput.csv and .md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import caption
from benchmarks.output import markdown_table, write_csv
from benchmarks.peers.contenders import versions
from lnq.files import write_text

PROGRAM = Path(__file__).resolve().parent.parent / "process.py"
ALONE = "alone"  # names the way of one process per CT


def seconds_of_commands(commands: Sequence[Sequence[str]]) -> float:
    """How long commands take one after the other. Raises ValueError with the last line of one that fails."""
    start = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError((done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1])
    return time.perf_counter() - start


def commands_of(way: str, cts: Sequence[Path], output: Path, options: Sequence[str]) -> list[list[str]]:
    """The commands of a way: ALONE or a number of workers. Each takes `options` too."""
    program = [sys.executable, str(PROGRAM), "batch", "--quiet", *options]
    if way == ALONE:
        return [[*program, str(ct), "-o", str(output / str(number))] for number, ct in enumerate(cts)]
    return [[*program, *map(str, cts), "-o", str(output), "--workers", way]]


def throughput_table(count: int, times: dict[str, list[float]]) -> list[str]:
    """Lines of Markdown for `count` CTs: medians of the seconds by way, and how many times faster than alone."""
    median = {way: float(np.median(values)) for way, values in times.items()}
    rows = []
    for way, seconds in median.items():
        name = "a process per CT" if way == ALONE else f"one run, {way} worker{'' if way == '1' else 's'}"
        rows.append((name, f"{seconds:.1f}", f"{3600 * count / seconds:.0f}", f"{median[ALONE] / seconds:.2f}"))
    lines = markdown_table(("run", "median s", "CTs an hour", "times faster"), rows)
    return [*lines, f"{count} CTs, each way {len(times[ALONE])} times.", ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
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
                commands = commands_of(way, options.cts, Path(folder), ["--model", options.model])
                try:
                    own.append(seconds_of_commands(commands))
                except ValueError as error:
                    print(f"Error: {error}", file=sys.stderr)
                    return 2
            print(f"{way}: {own[-1]:.1f} s", file=sys.stderr)
    rows = ([f"{value:.2f}" for value in row] for row in zip(*times.values(), strict=True))
    write_csv(options.output / "throughput.csv", list(times), rows)
    lines = ["# Throughput", "", *caption("benchmarks.throughput", arguments, versions())]
    text = "\n".join([*lines, *throughput_table(len(options.cts), times)])
    write_text(options.output / "throughput.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
