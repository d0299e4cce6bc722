"""Measured nodes as JSON and CSV, of one case and of a whole run."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lnq.files import write_text
from lnq.nodes.measure import Node

NODES_JSON, NODES_CSV = "nodes.json", "nodes.csv"
COLUMNS = (
    "case", "number", "volume_mm3", "short_axis_mm", "long_axis_mm", "diameter_mm", "short_axis_class", "mean_hu",
    "mean_probability", "l_mm", "p_mm", "s_mm", "side", "above_carina_mm",
)  # fmt: skip
_DECIMALS = {"mean_probability": 3}  # all else, in mm, mm3 or HU, has one

Row = dict[str, Any]  # one node
Entry = dict[str, Any]  # one case: a line of the manifest


def rows_of(case: str, nodes: Iterable[Node]) -> list[Row]:
    """One row per node, rounded; the centroid as `l_mm`, `p_mm`, `s_mm` (to the patient's left, back and head)."""
    rows = []
    for node in nodes:
        row: Row = {"case": case}
        for name, value in dataclasses.asdict(node).items():
            if name == "centroid_lps_mm":
                row |= {axis: _round(v) for axis, v in zip(("l_mm", "p_mm", "s_mm"), value, strict=True)}
            else:
                row[name] = _round(value, _DECIMALS.get(name, 1)) if isinstance(value, float) else value
        rows.append(row)
    return rows


def _round(value: float, decimals: int = 1) -> float:
    return round(value, decimals) + 0.0  # no -0.0


def write_case_table(folder: Path, rows: Sequence[Row]) -> None:
    """Write `nodes.csv` and then `nodes.json` of one case, also where it has no node."""
    write_table(folder, rows)
    write_text(folder / NODES_JSON, json.dumps(rows, indent=1) + "\n")


def read_case_table(folder: Path) -> list[Row] | None:
    """The rows that `write_case_table` wrote; None where they are missing, damaged or of another version."""
    try:
        rows = json.loads((folder / NODES_JSON).read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(rows, list) and all(isinstance(row, dict) and tuple(row) == COLUMNS for row in rows)
    return rows if whole else None


def write_table(folder: Path, rows: Iterable[Row]) -> None:
    """Write `nodes.csv`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / NODES_CSV, text.getvalue())
