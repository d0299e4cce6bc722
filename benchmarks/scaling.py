"""Time and memory of this project's pipeline over the CT's size.

    python -m benchmarks.scaling --bundle model -o docs/results

Three series are made from one phantom. `slices` has thinner slices of the same patient, `pixels` has finer pixels, and
`extent` has a patient who is stretched from head to foot at the same spacing. In the first two series the network sees
the same, so its time should not grow. In the third, all should grow in proportion. Each CT has a process of its own,
file to file. Writes scaling-BUNDLE.csv, .md and .png.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.bundles import add_arguments, find_bundle
from benchmarks.machine import caption
from benchmarks.output import MIB, markdown_table, save_figure, write_csv
from benchmarks.peers.contenders import OURS
from benchmarks.peers.launch import ContenderRun, launch
from benchmarks.peers.stages import ContenderJob
from lnq.files import write_text
from lnq.image.itk import write_volume
from lnq.image.resample import resample_array_to
from lnq.image.volume import Volume, make_affine
from phantom.make import make_phantom

SLICES = (50, 100, 200, 400, 800)
PIXELS = (256, 512, 768, 1024)
STRETCHES = (1, 2, 4, 8)
STANDARD = (100, 512)  # slices, and pixels of a side, where a series does not vary them


@dataclass(frozen=True)
class SeriesSize:
    """The size of one CT of a series."""

    series: str
    slices: int
    pixels: int  # of a side
    stretch: int = 1  # how many times longer the patient is than the phantom

    @property
    def input_bytes(self) -> int:
        """Bytes of the CT as int16."""
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
        """How many times the input's size the peak memory lies above that of the program with its model."""
        return (self.peak_bytes - self.base_bytes) / self.size.input_bytes


def sizes(slices: Sequence[int], pixels: Sequence[int], stretches: Sequence[int]) -> Iterator[SeriesSize]:
    """The sizes of all CTs of the three series."""
    yield from (SeriesSize("slices", n, STANDARD[1]) for n in slices)
    yield from (SeriesSize("pixels", STANDARD[0], n) for n in pixels)
    yield from (SeriesSize("extent", STANDARD[0] * n, STANDARD[1] // 2, n) for n in stretches)


def resized(volume: Volume, size: SeriesSize) -> Volume:
    """The CT, int16, interpolated linearly on another grid of the same extent. The stretch only alters the spacing."""
    shape = (size.slices, size.pixels, size.pixels)
    scale = [n / m for n, m in zip(volume.shape, shape, strict=True)]
    origin = [float(v) for v in volume.affine @ [*((s - 1) / 2 for s in scale), 1.0]][:3]
    spacing = [s * n for s, n in zip(volume.spacing_mm, scale, strict=True)]
    grid = Volume(np.broadcast_to(np.int16(0), shape), make_affine(spacing, origin, volume.direction))
    array = resample_array_to(volume.array, volume, grid).round().astype(np.int16)
    return Volume(array, make_affine([spacing[0] * size.stretch, *spacing[1:]], origin, volume.direction))


def medians(size: SeriesSize, runs: Sequence[ContenderRun]) -> SizeMedians:
    """Medians over the runs of a size. Raises ValueError where a run failed."""
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


def size_table(results: Sequence[SizeMedians]) -> list[str]:
    """Lines of Markdown: a row per size."""
    head = (
        "series",
        "voxels",
        "input MiB",
        "total s",
        "without start s",
        "network s",
        "CPU time outside it",
        "windows",
    )
    rows = []
    for one in results:
        size = one.size
        voxels = f"{size.slices} x {size.pixels} x {size.pixels}"
        times = (f"{one.total_s:.2f}", f"{one.work_s:.2f}", f"{one.network_s:.2f}", f"{one.cpu_outside:.0%}")
        memory = (f"{one.windows:.0f}", f"{one.peak_bytes / MIB:.0f}", f"{one.memory_ratio:.2f}")
        rows.append((size.series, voxels, f"{size.input_bytes / MIB:.0f}", *times, *memory))
    return markdown_table((*head, "peak MiB", "above the program, in inputs"), rows)


def slopes(results: Sequence[SizeMedians]) -> list[str]:
    """Lines of Markdown: what each further MiB of input costs in a series, by straight lines through its points."""
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
    """Write CSV, Markdown and picture. `head`: first lines of the Markdown."""
    columns, seconds = ("slices", "pixels", "input_mib"), ("total_s", "work_s", "network_s")
    rows = []
    for one in results:
        size = one.size
        times = (f"{value:.3f}" for value in (one.total_s, one.work_s, one.network_s))
        memory = (f"{value / MIB:.1f}" for value in (one.base_bytes, one.peak_bytes))
        start = (size.series, size.slices, size.pixels, f"{size.input_bytes / MIB:.1f}")
        rows.append((*start, *times, f"{one.cpu_outside:.4f}", round(one.windows), *memory))
    columns_after = ("cpu_outside", "windows", "base_mib", "peak_mib")
    write_csv(folder / f"{name}.csv", ("series", *columns, *seconds, *columns_after), rows)
    write_text(folder / f"{name}.md", "\n".join([*head, *size_table(results), *slopes(results)]))
    plot(folder / f"{name}.png", results)


def plot(path: Path, results: Sequence[SizeMedians]) -> None:
    """Draw seconds without the start, and memory, over the input's size, with a line per series."""
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
    save_figure(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    add_arguments(parser)
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
                results.append(medians(size, runs))
                versions |= runs[0].versions
                print(size_table(results)[-2], file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    head = ["# A whole case over the CT's size", "", *caption("benchmarks.scaling", arguments, versions)]
    write(options.output, f"scaling-{bundle.name}", results, head)
    return 0


if __name__ == "__main__":
    sys.exit(main())
