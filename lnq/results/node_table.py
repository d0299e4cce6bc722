"""Write and read tables of measured nodes as JSON and CSV, for one case and for a whole run."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnq.files import write_text
from lnq.nodes.measure import Node, Side
from lnq.plain import check_types, from_plain
from lnq.text import in_cell

NODES_JSON, NODES_CSV = "nodes.json", "nodes.csv"


@dataclass(frozen=True)
class NodeRow:
    """One node of a case, rounded: mm, mm3 and HU to one decimal, probabilities and agreement to three.

    `l_mm`, `p_mm` and `s_mm` are the centroid's patient coordinates, towards left, back and head. The other fields are
    those of `lnq.nodes.measure.Node`.
    """

    case: str
    number: int
    volume_mm3: float
    short_axis_mm: float
    long_axis_mm: float
    diameter_mm: float
    short_axis_class: str
    mean_hu: float
    mean_probability: float
    l_mm: float
    p_mm: float
    s_mm: float
    side: Side | None
    above_carina_mm: float | None
    station: str | None = None
    agreement: float | None = None

    def plain(self) -> dict[str, Any]:
        """Plain data. What has no agreement, because one network made it, has no entry for it."""
        plain = dataclasses.asdict(self)
        if self.agreement is None:
            del plain["agreement"]
        return plain


COLUMNS = tuple(field.name for field in dataclasses.fields(NodeRow))


def rows_of(case: str, nodes: Iterable[Node]) -> list[NodeRow]:
    """One row per node."""
    return [_row(case, node) for node in nodes]


def nodes_of(rows: Iterable[NodeRow]) -> list[Node]:
    """The nodes of a table, as it rounds them: `rows_of` gives the same rows again."""
    return [
        Node(
            number=row.number,
            volume_mm3=row.volume_mm3,
            short_axis_mm=row.short_axis_mm,
            long_axis_mm=row.long_axis_mm,
            diameter_mm=row.diameter_mm,
            short_axis_class=row.short_axis_class,
            mean_hu=row.mean_hu,
            mean_probability=row.mean_probability,
            centroid_lps_mm=(row.l_mm, row.p_mm, row.s_mm),
            side=row.side,
            above_carina_mm=row.above_carina_mm,
            agreement=row.agreement,
            station=row.station,
        )
        for row in rows
    ]


def _row(case: str, node: Node) -> NodeRow:
    left, posterior, superior = (_round(value) for value in node.centroid_lps_mm)
    return NodeRow(
        case=case,
        number=node.number,
        volume_mm3=_round(node.volume_mm3),
        short_axis_mm=_round(node.short_axis_mm),
        long_axis_mm=_round(node.long_axis_mm),
        diameter_mm=_round(node.diameter_mm),
        short_axis_class=node.short_axis_class,
        mean_hu=_round(node.mean_hu),
        mean_probability=_round(node.mean_probability, 3),
        l_mm=left,
        p_mm=posterior,
        s_mm=superior,
        side=node.side,
        above_carina_mm=None if node.above_carina_mm is None else _round(node.above_carina_mm),
        station=node.station,
        agreement=None if node.agreement is None else _round(node.agreement, 3),
    )


def _round(value: float, decimals: int = 1) -> float:
    return round(value, decimals) + 0.0  # turns -0.0 into 0.0


def write_case_table(folder: Path, rows: Sequence[NodeRow]) -> None:
    """Write `nodes.csv` and then `nodes.json` of one case, even where it has no node."""
    write_table(folder, rows)
    write_text(folder / NODES_JSON, json.dumps([row.plain() for row in rows], indent=1) + "\n")


def read_case_table(folder: Path) -> list[NodeRow] | None:
    """The rows that `write_case_table` wrote; None where they are missing, damaged or of another version."""
    try:
        rows = json.loads((folder / NODES_JSON).read_text())
        return [_checked(from_plain(NodeRow, row)) for row in rows] if isinstance(rows, list) else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _checked(row: NodeRow) -> NodeRow:
    check_types(row)
    return row


def write_table(folder: Path, rows: Iterable[NodeRow]) -> None:
    """Write `nodes.csv` into a folder, with a column for the agreement where any row has one.

    A case's name that a spreadsheet would take for a formula begins with `'`.
    """
    plain = [row.plain() | {"case": in_cell(row.case)} for row in rows]
    has_agreement = any("agreement" in row for row in plain)
    columns = COLUMNS if has_agreement else COLUMNS[: COLUMNS.index("agreement")]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    write_text(folder / NODES_CSV, text.getvalue())
