"""The scores of the hard set's rows, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import caption
from benchmarks.output import markdown_table, write_csv
from lnq.files import write_text

SIZES_MM = (0.0, 5.0, 10.0, float("inf"))  # classes of short axis
NAMES = {
    "g": "row g: the paper's method, pre-trained",
    "copies": "Dice + CE with copies of annotated nodes",
    "recipe": "Dice + CE with copies in two rounds, the second with the nodes that the first marks surely",
    "recipe-full": "the recipe with ten cases annotated wholly, which half of the samples come from",
    "complete": "Dice + CE with copies, all cases annotated wholly",
}
_COLUMNS = (
    "annotated", "row", "seed", "Dice %", "ASSD mm", "found below 5 mm", "5 to 10 mm", "10 mm and more",
    "false components", "calibration error", "threshold", "peak threshold", "threshold by partial labels",
    "Dice % there",
)  # fmt: skip
_MEANS = (
    "annotated",
    "row",
    "seeds",
    "Dice %",
    "ASSD mm",
    "found of 5 to 10 mm",
    "of 10 mm and more",
    "false per CT",
    "Dice % by partial labels",
)


@dataclass(frozen=True)
class HardScore:
    """What a cell's network makes of the phantoms to score on."""

    arm: str
    share: float  # of annotated nodes; 1: all, with exact borders
    seed: int
    threshold: float
    peak_threshold: float
    dice: tuple[float, ...]  # per case
    assd_mm: tuple[float, ...]  # per case, missing ones replaced by the set's largest
    nodes_mm: tuple[float, ...]  # short axis of each node of all cases
    found: tuple[bool, ...]
    false_components: tuple[int, ...]  # per case
    # After a fit on the phantoms that thresholds were chosen on; None where nodes are no more probable than all else.
    calibration_error: float | None
    partial_threshold: float  # the one that partial labels choose, see `training.scoring.partial_labels.best_outline`
    dice_partial: tuple[float, ...]  # per case, at this threshold

    def recall(self, low_mm: float, high_mm: float) -> float:
        """The part of the nodes of such a short axis that were found; NaN where there is none."""
        sizes, found = np.array(self.nodes_mm), np.array(self.found, bool)
        inside = (sizes >= low_mm) & (sizes < high_mm)
        return float(found[inside].mean()) if inside.any() else float("nan")

    @property
    def row(self) -> tuple[str, ...]:
        """The score as a row of the CSV."""
        error = "" if self.calibration_error is None else f"{self.calibration_error:.3f}"
        return (
            f"{self.share:g}", self.arm, str(self.seed), f"{100 * np.mean(self.dice):.1f}",
            f"{np.mean(self.assd_mm):.2f}",
            *(f"{100 * self.recall(low, high):.1f}" for low, high in pairwise(SIZES_MM)),
            f"{np.mean(self.false_components):.2f}", error, f"{self.threshold:.4g}", f"{self.peak_threshold:.4g}",
            f"{self.partial_threshold:.4g}", f"{100 * np.mean(self.dice_partial):.1f}",
        )  # fmt: skip


def sort_scores(scores: Sequence[HardScore]) -> list[HardScore]:
    """The most annotated first, then in the order of NAMES and by seed."""
    order = list(NAMES)
    return sorted(scores, key=lambda one: (-one.share, order.index(one.arm), one.seed))


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """The mean over seeds, with their range where there are several."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def mean_rows(scores: Sequence[HardScore]) -> list[tuple[str, ...]]:
    """A row per share and arm of sorted scores: means over seeds, with their range."""
    rows = list[tuple[str, ...]]()
    for (share, arm), group in groupby(scores, key=lambda one: (one.share, one.arm)):
        cells = list(group)
        rows.append((
            f"{100 * share:g} %", NAMES[arm], str(len(cells)),
            _spread([100 * float(np.mean(one.dice)) for one in cells]),
            _spread([float(np.mean(one.assd_mm)) for one in cells]),
            _spread([100 * one.recall(5.0, 10.0) for one in cells], 0),
            _spread([100 * one.recall(10.0, float("inf")) for one in cells], 0),
            _spread([float(np.mean(one.false_components)) for one in cells]),
            _spread([100 * float(np.mean(one.dice_partial)) for one in cells]),
        ))  # fmt: skip
    return rows


def write_results(folder: Path, scores: Sequence[HardScore], options: Sequence[str]) -> None:
    """Write hard.csv, with a row per cell, and hard.md, with one per row and share."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "hard.csv", _COLUMNS, [one.row for one in scores])
    lines = [
        "# The hard set",
        "",
        "Phantoms of which few nodes are annotated, large ones more often, with borders off by one or two voxels. "
        "Scored on phantoms of another domain: rare anatomy, other contrast, slices and kernels. Every row is trained "
        "on the same CTs, as [told here](../training.md#few-annotated-nodes-copies-and-a-second-round). Thresholds are "
        "those that are best on usual phantoms that are annotated wholly, eight where no other number is given. "
        "Synthetic data: this says nothing about patients.",
        "",
        *markdown_table(_MEANS, mean_rows(scores), left=2),
        "In brackets: the lowest and the highest seed. The last column's threshold needs no complete case: it outlines "
        "those nodes best that are annotated in the phantoms to choose thresholds on when they are annotated in part, "
        "too. Seed by seed: [hard.csv](hard.csv).",
        "",
        *caption("benchmarks.hard", options, {"torch": torch.__version__}),
    ]
    write_text(folder / "hard.md", "\n".join(lines))
