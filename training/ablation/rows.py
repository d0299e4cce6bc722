"""The rows of the paper's Table 1 and the values of its Fig. 3."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from training.config import Losses, Trust
from training.method.losses import SupervisedTerm
from training.method.step import DBDMP, Objective, PseudoLoss


@dataclass(frozen=True)
class TableRow:
    """One row of Table 1: what is trained, with which losses, and what the paper found on its test set."""

    name: str
    supervised: tuple[SupervisedTerm, ...]  # summed, on the partial annotation
    pseudo: PseudoLoss  # both branches against their mixed pseudo label; "none": one branch
    pretrained: bool  # starts from Model Genesis
    paper_dice: float  # mean and deviation over cases, in %; NaN where the paper has no such row
    paper_dice_spread: float
    paper_assd_mm: float
    paper_assd_spread_mm: float
    trust: Trust = "none"  # what the losses take for background

    @property
    def objective(self) -> Objective:
        """What the row minimises. Every case counts as partially annotated."""
        return Objective(f"row {self.name}", self.supervised, self.pseudo)


ROWS = {
    row.name: row
    for row in (
        TableRow("baseline", ("ce",), "none", False, 19.04, 19.40, 18.23, 10.10),
        TableRow("a", ("ce",), "dice", False, 23.22, 17.50, 25.41, 15.33),
        TableRow("b", ("ce", "tversky"), "dice", False, 45.10, 21.58, 13.54, 12.05),
        TableRow("c", ("ce", "tversky"), "consensus", False, 40.26, 22.39, 15.19, 10.94),
        TableRow("d", ("sce", "tversky"), "consensus", False, 39.34, 22.58, 16.54, 15.75),
        TableRow("e", ("pce", "tversky"), "consensus", False, 57.36, 17.09, 9.85, 13.25),
        TableRow("f", DBDMP.supervised, DBDMP.pseudo, False, 56.10, 17.58, 10.28, 12.75),
        TableRow("g", DBDMP.supervised, DBDMP.pseudo, True, 55.44, 18.98, 9.35, 7.69),
    )
}

EXTRA_ROW = dataclasses.replace(ROWS["e"], name="e-integer", pseudo="integer")
"""Row (e) with the pseudo label cast to integers, as in the authors' published loss. Every voxel that is not annotated
becomes background. This is not part of the method: it shows where the paper's row (e) learns background from."""


def _certain(row: TableRow) -> TableRow:
    nan = math.nan
    name, objective = f"{row.name}-certain", (row.supervised, row.pseudo, row.pretrained)
    return TableRow(name, *objective, nan, nan, nan, nan, trust="certain")


CERTAIN_ROWS = {row.name: row for row in (_certain(ROWS[name]) for name in "cdf")}
"""Rows of which the losses trust certain background alone (METHOD section 9). The paper has none of them."""

ALL_ROWS = ROWS | {EXTRA_ROW.name: EXTRA_ROW} | CERTAIN_ROWS

SWEEPS: dict[str, tuple[float, ...]] = {
    "tau": (0.1, 0.2, 0.3, 0.4),
    "gamma": (0.4, 0.6, 0.8, 1.0, 1.2),  # the paper does not print these
    "alpha": (0.3, 0.4, 0.5, 0.6),
    "lambda": (1.4, 1.6, 1.8, 2.0, 2.2),
}
SWEPT_ROW = "f"  # the whole method from chance


def with_parameter(losses: Losses, parameter: str, value: float) -> Losses:
    """The losses with one parameter of Fig. 3 changed. Raises ValueError for an unknown parameter."""
    if parameter not in SWEEPS:
        raise ValueError(f"Parameter must be one of {', '.join(SWEEPS)}, not {parameter!r}")
    changed: dict[str, Any] = {"final" if parameter == "lambda" else parameter: value}
    return dataclasses.replace(losses, **changed)


def parameter_of(losses: Losses, parameter: str) -> float:
    """The value of one parameter of Fig. 3. Raises KeyError for an unknown one."""
    return {"tau": losses.tau, "gamma": losses.gamma, "alpha": losses.alpha, "lambda": losses.final}[parameter]
