"""Time and memory of a whole case over the CT's size, with this project's pipeline.

    python -m benchmarks.scaling --bundle model -o docs/results

Three series from one phantom: `slices`, thinner ones of the same patient; `pixels`, finer ones; `extent`, a longer
patient at the same spacing, stretched from head to foot. In the first two a patient stays as long and wide as he is, so
the network sees the same and its time should not grow; in the third all should grow in proportion. Each CT goes through
a process of its own, file to file. Writes scaling-BUNDLE.csv, .md and .png.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import caption
from benchmarks.peers.bundles import PAPER, find_bundle
from benchmarks.peers.contender import OURS
from benchmarks.peers.launch import ContenderRun, launch
from benchmarks.stages import ContenderJob
from lnq.files import replace_atomically, write_text
from lnq.image.itk import write_volume
from lnq.image.resample import resample_array_to
from lnq.image.volume import Volume, make_affine
from phantom.make import make_phantom

SLICES = (50, 100, 200, 400, 800)
PIXELS = (256, 512, 768, 1024)
STRETCHES = (1, 2, 4, 8)
STANDARD = (100, 512)  # slices and pixels of the other series
MIB = 2**20


@dataclass(frozen=True)
class SeriesSize:
    """One CT of a series."""

    series: str
    slices: int
    pixels: int
    stretch: int = 1  # how much longer the patient is than he was

    @property
    def input_bytes(self) -> int:
        """Of the CT as int16."""
        return 2 * self.slices * self.pixels**2


@dataclass(frozen=True)
class SizeMedians:
    """Medians over the runs of one size."""

    size: SeriesSize
    total_s: float
    work_s: float  # without the start
    network_s: float
    cpu_outside: float  # part of the CPU time after the start that is not the network's
    windows: float
    base_bytes: float
    peak_bytes: float

    @property
    def memory_ratio(self) -> float:
        """Peak memory above that of the program with its model, in sizes of the input."""
        return (self.peak_bytes - self.base_bytes) / self.size.input_bytes


def sizes(slices: Sequence[int], pixels: Sequence[int], stretches: Sequence[int]) -> Iterator[SeriesSize]:
    """All CTs of the three series."""
    yield from (SeriesSize("slices", n, STANDARD[1]) for n in slices)
    yield from (SeriesSize("pixels", STANDARD[0], n) for n in pixels)
    yield from (SeriesSize("extent", STANDARD[0] * n, STANDARD[1] // 2, n) for n in stretches)


def resized(volume: Volume, size: SeriesSize) -> Volume:
    """The CT on another grid over the same extent, int16, interpolated linearly; then the stretch, by the spacing."""
    shape = (size.slices, size.pixels, size.pixels)
    scale = [n / m for n, m in zip(volume.shape, shape, strict=True)]
    origin = [float(v) for v in volume.affine @ [*((s - 1) / 2 for s in scale), 1.0]][:3]
    spacing = [s * n for s, n in zip(volume.spacing_mm, scale, strict=True)]
    grid = Volume(np.broadcast_to(np.int16(0), shape), make_affine(spacing, origin, volume.direction))
    array = resample_array_to(volume.array, volume, grid).round().astype(np.int16)
    return Volume(array, make_affine([spacing[0] * size.stretch, *spacing[1:]], origin, volume.direction))


def measured(size: SeriesSize, runs: Sequence[ContenderRun]) -> SizeMedians:
    """Medians. Raises ValueError where a run failed."""
    for run in runs:
        if run.error:
            raise ValueError(f"{size} failed: {run.error}")
    columns = zip(
        *(
            (r.total_s, r.work_s, r.seconds["network"], r.cpu_outside, r.windows, r.base_bytes, r.peak_bytes)
            for r in runs
        ),
        strict=True,
    )
    return SizeMedians(size, *(float(np.median(column)) for column in columns))


def table(results: Sequence[SizeMedians]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        "| series | voxels | input MiB | total s | without start s | network s | CPU time outside it | windows "
        "| peak MiB | above the program, in inputs |",
        "| --- |" + " ---: |" * 9,
    ]
    for one in results:
        size = one.size
        voxels = f"{size.slices} x {size.pixels} x {size.pixels}"
        times = f"{one.total_s:.2f} | {one.work_s:.2f} | {one.network_s:.2f} | {one.cpu_outside:.0%}"
        memory = f"{one.windows:.0f} | {one.peak_bytes / MIB:.0f} | {one.memory_ratio:.2f}"
        lines.append(f"| {size.series} | {voxels} | {size.input_bytes / MIB:.0f} | {times} | {memory} |")
    return [*lines, ""]


def slopes(results: Sequence[SizeMedians]) -> list[str]:
    """What each further MiB of input costs in a series, by straight lines through its points."""
    lines = []
    for series in dict.fromkeys(one.size.series for one in results):
        own = [one for one in results if one.size.series == series]
        if len(own) < 2:
            continue
        inputs = [one.size.input_bytes / MIB for one in own]
        memory = np.polyfit(inputs, [one.peak_bytes / MIB for one in own], 1)[0]
        seconds = np.polyfit(inputs, [one.work_s for one in own], 1)[0]
        network = np.polyfit(inputs, [one.network_s for one in own], 1)[0]
        lines.append(
            f"- {series}: each 100 MiB of input more add {100 * memory:.0f} MiB of memory and {100 * seconds:.2f} s, "
            f"of which {100 * network:.2f} s in the network"
        )
    return [*lines, ""]


def write(folder: Path, name: str, results: Sequence[SizeMedians], head: Sequence[str]) -> None:
    """CSV, Markdown and picture."""
    with replace_atomically(folder / f"{name}.csv") as part, open(part, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns, seconds = ("slices", "pixels", "input_mib"), ("total_s", "work_s", "network_s")
        writer.writerow(("series", *columns, *seconds, "cpu_outside", "windows", "base_mib", "peak_mib"))
        for one in results:
            size = one.size
            times = (f"{value:.3f}" for value in (one.total_s, one.work_s, one.network_s))
            memory = (f"{value / MIB:.1f}" for value in (one.base_bytes, one.peak_bytes))
            start = (size.series, size.slices, size.pixels, f"{size.input_bytes / MIB:.1f}")
            writer.writerow((*start, *times, f"{one.cpu_outside:.4f}", round(one.windows), *memory))
    write_text(folder / f"{name}.md", "\n".join([*head, *table(results), *slopes(results)]))
    plot(folder / f"{name}.png", results)


def plot(path: Path, results: Sequence[SizeMedians]) -> None:
    """Seconds after the start, and memory, over the input's size, one line per series."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    times, memory = figure.subplots(1, 2)
    for series in dict.fromkeys(one.size.series for one in results):
        own = [one for one in results if one.size.series == series]
        inputs = [one.size.input_bytes / MIB for one in own]
        line = times.plot(inputs, [one.work_s for one in own], marker="o", label=series)[0]
        around = [one.work_s - one.network_s for one in own]
        times.plot(inputs, around, ":", marker=".", color=line.get_color(), label=f"{series}, outside the network")
        memory.plot(inputs, [one.peak_bytes / MIB for one in own], marker="o", label=series)
    largest = max(one.size.input_bytes for one in results) / MIB
    memory.plot([0, largest], [0, largest], color="0.6", linewidth=1, label="the input itself")
    times.set(xlabel="CT as int16, MiB", ylabel="seconds, without the start", xlim=(0, None), ylim=(0, None))
    memory.set(xlabel="CT as int16, MiB", ylabel="peak memory, MiB", xlim=(0, None), ylim=(0, None))
    times.legend(frameon=False)
    memory.legend(frameon=False)
    with replace_atomically(path) as part:
        figure.savefig(part, dpi=120, format="png")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", required=True, help=f"a bundle's folder, or {PAPER}: its network, random weights")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=9000, help="of the phantom")
    parser.add_argument("--slices", type=int, nargs="*", default=list(SLICES))
    parser.add_argument("--pixels", type=int, nargs="*", default=list(PIXELS))
    parser.add_argument("--stretches", type=int, nargs="*", default=list(STRETCHES))
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    phantom = make_phantom(options.seed, None, STANDARD[1]).ct
    results, versions = [], dict[str, str]()
    try:
        with tempfile.TemporaryDirectory(prefix="lnq-scaling-") as name:
            folder = Path(name)
            bundle = find_bundle(options.bundle, folder).resolve()
            for size in sizes(options.slices, options.pixels, options.stretches):
                ct = folder / "ct.mha"
                write_volume(resized(phantom, size), ct, compress=False)
                job = ContenderJob(bundle, ct, ct, folder / "output")
                runs = [launch(OURS, size.series, repeat, job) for repeat in range(1, options.repeats + 1)]
                results.append(measured(size, runs))
                versions |= runs[0].versions
                print(table(results)[-2], file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    head = ["# A whole case over the CT's size", "", *caption("benchmarks.scaling", arguments, versions)]
    write(options.output, f"scaling-{bundle.name}", results, head)
    return 0


if __name__ == "__main__":
    sys.exit(main())
