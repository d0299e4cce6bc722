"""Summarise the table: means over seeds and phantoms, differences between rows, and missing cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.ablation.rows import ROWS, SWEEPS, SWEPT_ROW
from training.ablation.score import THRESHOLDS
from training.ablation.table import CellRow, Values
from training.scoring.scores import replace_missing

SEEDS = (0, 1, 2)  # of Table 1's rows
SWEEP_SEEDS = (0,)
COLLAPSED = 0.5  # marked fraction of the volume above which a row has collapsed to foreground

COMPARED = (("f", "baseline"), ("f", "a"), ("f", "c"), ("g", "baseline"), ("g", "a"), ("g", "c"), ("e", "f"))
"""Pairs of rows whose differences are the paper's main findings: f and g above baseline, a and c; e near f."""


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and phantoms, with its spread over each; NaN where there is no value."""

    mean: float
    over_cases: float  # standard deviation over phantoms of the means over seeds
    lowest_seed: float
    highest_seed: float
    seeds: int

    def text(self, digits: int = 1) -> str:
        """As text, `47.1 ± 18.2 (45.0 to 49.3)`. The brackets hold the range of the seeds' means, if several."""
        if math.isnan(self.mean):
            return "none"
        seeds = f" ({self.lowest_seed:.{digits}f} to {self.highest_seed:.{digits}f})" if self.seeds > 1 else ""
        return f"{self.mean:.{digits}f} ± {self.over_cases:.{digits}f}{seeds}"


def spread(per_seed: Sequence[Values], factor: float = 1.0) -> Spread:
    """The spread of one list of values per seed, for the same phantoms. A seed of NaN is ignored."""
    known = np.array([v for v in per_seed if not math.isnan(v[0])], dtype=float) * factor  # [seeds, phantoms]
    if not known.size:
        return Spread(math.nan, math.nan, math.nan, math.nan, 0)
    seeds, cases = known.mean(axis=1), known.mean(axis=0)
    deviation = float(cases.std(ddof=1)) if len(cases) > 1 else 0.0
    return Spread(float(seeds.mean()), deviation, float(seeds.min()), float(seeds.max()), len(seeds))


def dice_spread(values: Sequence[Values]) -> Spread:
    """The spread of Dice, in %."""
    return spread(values, 100.0)


def assd_spread(values: Sequence[Values]) -> Spread:
    """The spread of ASSD in mm. A missing value is replaced by its seed's largest, as in the paper."""
    return spread([tuple(replace_missing(v)) for v in values])


def remarks(cells: Sequence[CellRow]) -> str:
    """What a mean would hide: seeds that collapsed, found nothing, or have the first or last threshold as best."""
    collapsed = sum(c.marked_half > COLLAPSED for c in cells)
    nothing = sum(not any(c.dice_best) for c in cells)
    ends = (THRESHOLDS[0], THRESHOLDS[-1])
    at_end = sum(any(math.isclose(c.threshold, end, rel_tol=1e-5) for end in ends) for c in cells)
    empty = sum(math.isnan(a) for c in cells for a in c.assd_best_mm)
    masks = sum(len(c.assd_best_mm) for c in cells)
    counts = [
        (collapsed, len(cells), "seeds mark more than half of the volume at 0.5"),
        (nothing, len(cells), "seeds find nothing"),
        (at_end, len(cells), "seeds have their best threshold at the end of those tried"),
        (empty, masks, "masks are empty"),
    ]
    return "; ".join(f"{count} of {of} {what}" for count, of, what in counts if count)


def of_row(cells: Sequence[CellRow], row: str) -> list[CellRow]:
    """A row's cells by seed, without those of sweeps."""
    return sorted((c for c in cells if c.row == row and not c.parameter), key=lambda c: c.seed)


def of_sweep(cells: Sequence[CellRow], parameter: str) -> dict[float, list[CellRow]]:
    """A sweep's cells by value. The plain row's cells with the sweep's seeds stand for their own value."""
    chosen = [c for c in cells if c.parameter == parameter]
    seeds = {c.seed for c in chosen} or set(SWEEP_SEEDS)
    chosen += [c for c in of_row(cells, SWEPT_ROW) if c.seed in seeds]
    by_value: dict[float, list[CellRow]] = {}
    for cell in sorted(chosen, key=lambda c: (c.of(parameter), c.seed)):
        by_value.setdefault(cell.of(parameter), []).append(cell)
    return by_value


def difference(cells: Sequence[CellRow], row: str, other: str) -> Spread:
    """Dice of `row` minus Dice of `other`, at their best thresholds, in points, paired by seed and phantom."""
    one, two = ({c.seed: c for c in of_row(cells, name)} for name in (row, other))
    pairs = [(one[s].dice_best, two[s].dice_best) for s in sorted(one.keys() & two.keys())]
    return dice_spread([tuple(np.subtract(a, b).tolist()) for a, b in pairs])


def missing(cells: Sequence[CellRow]) -> list[str]:
    """The missing cells of Table 1 and of Fig. 3, in words."""
    words = []
    for row in ROWS:
        lacking = [str(s) for s in SEEDS if s not in {c.seed for c in of_row(cells, row)}]
        if lacking:
            words.append(f"row {row}: seed {', '.join(lacking)}")
    for parameter, values in SWEEPS.items():
        lacking = [f"{value:g}" for value in values if value not in of_sweep(cells, parameter)]
        if lacking:
            words.append(f"{parameter}: {', '.join(lacking)}")
    return words
