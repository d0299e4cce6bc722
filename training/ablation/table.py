"""The table of finished cells: a CSV file with a row per cell. Several runs and machines may add to it."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnq.files import replace_atomically

TABLE_NAME = "ablation.csv"
Values = tuple[float, ...]


@dataclass(frozen=True)
class CellRow:
    """One finished cell: what was trained, and its scores on every test phantom at 0.5 and at its best threshold."""

    size: str
    settings: str  # digest of configuration and phantoms; only rows with the same digest are comparable
    changes: str  # overridden settings of the size's configuration, as options
    row: str
    parameter: str  # the parameter of Fig. 3 that was changed, or ""
    tau: float
    gamma: float
    alpha: float
    final: float  # lambda
    seed: int
    steps: int
    ramp_steps: int
    pretrain_steps: int  # 0: from chance
    threshold: float  # the best on the `tune` phantoms
    dice_half: Values  # per test phantom, at threshold 0.5
    dice_best: Values  # at `threshold`
    raw_dice_half: Values  # before post-processing
    raw_dice_best: Values
    assd_half_mm: Values  # NaN where nothing was marked
    assd_best_mm: Values
    marked_half: float  # mean marked fraction of the voxels, before post-processing
    marked_best: float
    train_minutes: float
    score_minutes: float
    machine: str
    commit: str
    date: str

    @property
    def key(self) -> tuple[str, str, str, str, float, int]:
        """What identifies a row of the table."""
        return self.size, self.settings, self.row, self.parameter, self.value, self.seed

    @property
    def value(self) -> float:
        """Value of the changed parameter; 0 where none was changed."""
        return self.of(self.parameter) if self.parameter else 0.0

    def of(self, parameter: str) -> float:
        """Value of one of Fig. 3's parameters in this cell."""
        return {"tau": self.tau, "gamma": self.gamma, "alpha": self.alpha, "lambda": self.final}[parameter]


def read_table(folder: Path) -> list[CellRow]:
    """All rows of the folder's table; none where there is no file. Raises ValueError where it is damaged."""
    path = folder / TABLE_NAME
    if not path.is_file():
        return []
    kinds = {f.name: f.type for f in dataclasses.fields(CellRow)}
    rows = []
    with open(path, newline="") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                rows.append(CellRow(**{name: _parse(line[name], str(kind)) for name, kind in kinds.items()}))
            except (KeyError, TypeError, ValueError, AttributeError):
                raise ValueError(f"{path}, line {number}, is no row of this table: mend or delete it") from None
    return rows


def add_row(folder: Path, row: CellRow) -> None:
    """Add a row, or replace the same cell's row. The file is read anew, as other runs may have added to it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [other for other in read_table(folder) if other.key != row.key]
    write_table(folder, [*rows, row])


def write_table(folder: Path, rows: Sequence[CellRow]) -> None:
    """Replace the folder's table."""
    names = [f.name for f in dataclasses.fields(CellRow)]
    with replace_atomically(folder / TABLE_NAME) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_format(getattr(row, name)) for name in names] for row in rows)


def _format(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(_format(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _parse(text: str, kind: str) -> Any:
    """Parse a field's value. `kind` is its annotation as text."""
    if kind == "Values":
        return tuple(float(part) for part in text.split())
    if kind == "float":
        return _finite(text)
    return int(text) if kind == "int" else str(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number")
    return value
