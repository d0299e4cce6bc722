"""The ablation's pictures: a box per row of Table 1 beside the paper's mean, and a curve per sweep of Fig. 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnq.files import replace_atomically
from lnq.results.preview import FOUND_COLOUR, TRUTH_COLOUR
from training.ablation.rows import ALL_ROWS, ROWS, SWEEPS
from training.ablation.summary import dice_spread, of_row, of_sweep
from training.ablation.table import CellRow


def plot_rows(cells: Sequence[CellRow], path: Path) -> None:
    """Write a PNG: Dice per phantom (mean over seeds) as boxes, at threshold 0.5 and the best, and the paper's mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    names = [name for name in ALL_ROWS if name in ROWS or of_row(cells, name)]
    for place, name in enumerate(names):
        chosen = of_row(cells, name)
        for kind, offset, colour in (("dice_half", -0.17, TRUTH_COLOUR), ("dice_best", 0.17, FOUND_COLOUR)):
            if chosen:
                _draw_seeds(axes, place + offset, np.array([getattr(c, kind) for c in chosen]) * 100, colour)
        axes.scatter(place, ALL_ROWS[name].paper_dice, marker="D", color="black", zorder=4)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="Dice in %", ylim=(-2, 100), title="Rows of Table 1")
    axes.legend(handles=_legend(), loc="upper left")
    _save(figure, path)


def _draw_seeds(axes: Any, place: float, values: np.ndarray, colour: str) -> None:
    """Draw a box over the phantoms of `values` [seeds, phantoms], and a bar for each seed's mean."""
    box = {"facecolor": colour, "alpha": 0.5}
    axes.boxplot(
        values.mean(axis=0),
        positions=[place],
        widths=0.3,
        patch_artist=True,
        boxprops=box,
        medianprops={"color": "black"},
        flierprops={"markersize": 3},
    )
    axes.scatter([place] * len(values), values.mean(axis=1), marker="_", s=90, color="black", zorder=3)


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=TRUTH_COLOUR, alpha=0.5, label="at threshold 0.5, a box over phantoms"),
        Patch(facecolor=FOUND_COLOUR, alpha=0.5, label="at its best threshold"),
        Line2D([], [], color="black", marker="_", linestyle="none", label="mean of a seed"),
        Line2D([], [], color="black", marker="D", linestyle="none", label="the paper, LNQ2023 test set, at 0.5"),
    ]


def plot_sweeps(cells: Sequence[CellRow], path: Path) -> None:
    """Write a PNG: mean Dice against each parameter of Fig. 3, at threshold 0.5 and the best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    panels = figure.subplots(1, len(SWEEPS), sharey=True)
    for axes, (parameter, values) in zip(panels, SWEEPS.items(), strict=True):
        found = of_sweep(cells, parameter)
        for kind, colour, label in (
            ("dice_half", TRUTH_COLOUR, "at 0.5"),
            ("dice_best", FOUND_COLOUR, "at its best threshold"),
        ):
            means = [dice_spread([getattr(c, kind) for c in chosen]).mean for chosen in found.values()]
            axes.plot(list(found), means, marker="o", color=colour, label=label)
        ticks = sorted({*values, *found})
        axes.set(xlabel=parameter, xticks=ticks, xlim=(ticks[0] - 0.05, ticks[-1] + 0.05), ylim=(-2, 100))
    panels[0].set_ylabel("Dice in %")
    panels[0].legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with replace_atomically(path) as part:
        figure.savefig(part, dpi=120, format="png")
