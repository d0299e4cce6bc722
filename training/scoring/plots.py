"""Pictures of scores: Dice and ASSD as box plots, detection by size as bars, and the worst cases on their CTs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnq.files import replace_atomically
from lnq.image.itk import read_volume
from lnq.results.preview import FOUND_COLOUR, TRUTH_COLOUR, preview
from training.scoring.scores import CaseResult, bin_name, by_size
from training.scoring.truths import Truth, read_instances

_JITTER = 0.12  # half-width over which the points of a box are spread


def plot_scores(results: Sequence[CaseResult], path: Path, title: str) -> None:
    """Write a PNG: box plots of Dice and ASSD with a point per case, and found nodes by short axis as bars.

    A hollow point is an ASSD that was replaced.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    dice_axes, assd_axes, node_axes = figure.subplots(1, 3, width_ratios=(1, 1, 2))
    draw_box(dice_axes, 1, [r.dice for r in results])
    dice_axes.set(title="Dice", ylim=(-0.02, 1.02), xticks=[])
    draw_box(assd_axes, 1, [r.assd_mm for r in results], [r.assd_replaced for r in results])
    assd_axes.set(title="ASSD in mm", xticks=[])
    assd_axes.set_ylim(bottom=0)
    _draw_detection(node_axes, results)
    figure.suptitle(title)
    with replace_atomically(path) as part:
        figure.savefig(part, dpi=120, format="png")


def draw_box(axes: Any, position: float, values: Sequence[float], hollow: Sequence[bool] | None = None) -> None:
    """Draw a box plot of the finite values with their points. Points are unfilled where `hollow` is true."""
    finite = np.array([math.isfinite(v) for v in values], bool)
    if not finite.any():
        axes.text(position, 0, "none", ha="center", va="bottom")
        return
    known = np.asarray(values, dtype=float)[finite]
    axes.boxplot(known, positions=[position], widths=0.5, showfliers=False, medianprops={"color": "black"})
    place = position + np.linspace(-_JITTER, _JITTER, len(known))
    empty = np.zeros(len(known), bool) if hollow is None else np.asarray(hollow, bool)[finite]
    for chosen, face in ((~empty, TRUTH_COLOUR), (empty, "none")):
        axes.scatter(place[chosen], known[chosen], s=18, facecolors=face, edgecolors=TRUTH_COLOUR, zorder=3)


def _draw_detection(axes: Any, results: Sequence[CaseResult]) -> None:
    rows = by_size(results)
    place = np.arange(len(rows))
    share = [row["found"] / row["nodes"] if row["nodes"] else 0.0 for row in rows]
    axes.bar(place, share, color=FOUND_COLOUR)
    for x, height, row in zip(place, share, rows, strict=True):
        axes.text(x, height, f"{row['found']} of {row['nodes']}", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(place, [bin_name(row) for row in rows])
    axes.set(title="nodes found, by short axis in mm", ylim=(0, 1.1))


class WorstCases:
    """Keep the masks of the `count` cases with the lowest Dice so far. Cases without a CT are ignored."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._kept: list[tuple[Truth, CaseResult, np.ndarray]] = []

    def add(self, truth: Truth, result: CaseResult, bits: np.ndarray) -> None:
        """Consider one more case. `bits` is its mask with one bit per voxel, from `np.packbits`."""
        if truth.ct is None or self.count < 1:
            return
        self._kept.append((truth, result, bits))
        self._kept.sort(key=lambda entry: entry[1].dice)
        del self._kept[self.count :]

    def draw(self, folder: Path) -> None:
        """Write `<rank>-<case>.png` for each case, rank 1 being the worst. The folder is emptied first."""
        shutil.rmtree(folder, ignore_errors=True)
        for rank, (truth, result, bits) in enumerate(self._kept, start=1):
            folder.mkdir(parents=True, exist_ok=True)
            assert truth.ct is not None  # add() keeps only cases with a CT
            volume, nodes = read_volume(truth.ct), read_instances(truth.path)
            mask = np.unpackbits(bits, count=volume.array.size).reshape(volume.shape)
            title = f"{truth.case}, Dice {result.dice:.2f}"
            wanted = volume.with_array((nodes.array > 0).astype(np.uint8))
            preview(volume, volume.with_array(mask), folder / f"{rank}-{truth.case}.png", wanted, title)
