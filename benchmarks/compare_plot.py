"""The picture of a comparison: a bar of seconds by stage for each contender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.compare_table import ContenderRow
from benchmarks.output import MIB, save_figure
from benchmarks.peers.stages import STAGES

# Okabe and Ito's colours, which the colour-blind can tell apart too.
COLOURS = dict(zip(STAGES, ("#bbbbbb", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#e69f00", "#cc79a7"), strict=True))
CUT = 3.0  # the longest bar is cut off where it is longer than the next by this factor


def plot(path: Path, rows: Sequence[ContenderRow], title: str) -> None:
    """Draw the whole time on the left, and the time outside the network on the right, each with its own scale."""
    rows = [row for row in rows if not row.error]
    figure = Figure(figsize=(11, 1.6 + 0.5 * len(rows)), layout="constrained")
    whole, around = figure.subplots(1, 2, sharey=True)
    bars(whole, rows, STAGES)
    bars(around, rows, [stage for stage in STAGES if stage != "network"])
    whole.set(xlabel="seconds", title="whole case")
    around.set(xlabel="seconds", title="outside the network")
    whole.invert_yaxis()
    handles, labels = whole.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title)
    save_figure(figure, path)


def bars(axes: Axes, rows: Sequence[ContenderRow], stages: Sequence[str]) -> None:
    """Draw stacked bars with their sums. A bar much longer than the others leaves the picture, and its sum says so."""
    sums = [sum(row.seconds.get(stage, 0.0) for stage in stages) for row in rows]
    right = limit(sums)
    left = [0.0] * len(rows)
    for stage in stages:
        width = [row.seconds.get(stage, 0.0) for row in rows]
        axes.barh(range(len(rows)), width, left=left, color=COLOURS[stage], label=stage)
        left = [start + more for start, more in zip(left, width, strict=True)]
    for number, total in enumerate(sums):
        fits = total <= right
        axes.annotate(
            f"{total:.1f}" if fits else f"to {total:.1f}  \u00bb",
            (min(total, right), number),
            xytext=(4 if fits else -4, 0),
            textcoords="offset points",
            ha="left" if fits else "right",
            va="center",
            color="black" if fits else "white",
        )
    axes.set_xlim(0, right * (1.14 if max(sums) <= right else 1.0))
    axes.set_yticks(range(len(rows)), [f"{row.contender}\n{row.peak_bytes / MIB:.0f} MiB" for row in rows])


def limit(sums: Sequence[float]) -> float:
    """How far the axis reaches: to the longest bar, or a little beyond the next where the longest is cut off."""
    longest, *others = sorted(sums, reverse=True)
    return 1.3 * others[0] if others and longest > CUT * others[0] > 0 else longest
