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
from lnq.measure import Node

NODES_JSON, NODES_CSV = "nodes.json", "nodes.csv"
COLUMNS = (
    "case", "number", "volume_mm3", "short_axis_mm", "long_axis_mm", "diameter_mm", "short_axis_class", "mean_hu",
    "mean_probability", "l_mm", "p_mm", "s_mm", "side", "above_carina_mm",
)  # fmt: skip
_DECIMALS = {"mean_probability": 3}  # all else, in mm, mm3 or HU, has one

Row = dict[str, Any]


def rows_of(case: str, nodes: Iterable[Node]) -> list[Row]:
    """One row per node, rounded; the centroid as `l_mm`, `p_mm`, `s_mm` (to the patient's left, back and head)."""
    rows = []
    for node in nodes:
        row: Row = {"case": case}
        for name, value in dataclasses.asdict(node).items():
            if name == "centroid_lps_mm":
                row |= {axis: round(v, 1) for axis, v in zip(("l_mm", "p_mm", "s_mm"), value, strict=True)}
            else:
                row[name] = round(value, _DECIMALS.get(name, 1)) if isinstance(value, float) else value
        rows.append(row)
    return rows


def write_case(folder: Path, case: str, nodes: Sequence[Node]) -> None:
    """Write `nodes.json` and `nodes.csv` of one case, also where it has no node."""
    rows = rows_of(case, nodes)
    write_text(folder / NODES_CSV, _csv(rows))
    write_text(folder / NODES_JSON, json.dumps(rows, indent=1) + "\n")


def write_run(output: Path, cases: Iterable[str]) -> None:
    """Write `nodes.csv` of those cases that have a `nodes.json` in the folder of their name."""
    rows: list[Row] = []
    for path in (output / case / NODES_JSON for case in cases):
        rows += json.loads(path.read_text()) if path.is_file() else []
    write_text(output / NODES_CSV, _csv(rows))


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
