"""The table of a data set's cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lnq.report.tables import Column, TableCell, cell_of
from training.dataset_page.cases import FULL, PARTIAL, THREE_STATES, ShownCase
from training.dataset_page.figures import has_contrast, nodes_of
from training.dataset_page.suspicions import KINDS, Suspicion

_SUSPECT, _PLAIN = "suspect", "plain"  # keys of the filter
_COLUMNS = (
    Column("case", "Case", numeric=False, large_first=False, wide=True),
    Column("annotation", "Annotated", numeric=False, large_first=False),
    Column("split", "Split", numeric=False, large_first=False),
    Column("nodes", "Nodes"),
    Column("short_axis", "Short axis", "mm", 1),
    Column("volume", "Volume", "cm³", 2),
    Column("blood", "Blood", "HU"),
    Column("slices", "Slices", "mm", 2),
    Column("pixel", "Pixel", "mm", 2),
    Column("field", "Field", "mm"),
    Column("certain", "Certain", "%"),
    Column("suspicions", "Suspicions, notes", numeric=False),
)


@dataclass(frozen=True)
class CaseRow:
    """A case's line of the table."""

    name: str
    cells: list[TableCell]  # all but the name and the suspicions
    suspicions: list[str]  # their titles
    notes: list[str]
    kinds: str  # keys that the table can be filtered by, with blanks between
    picture: str | None  # a data URI


def columns() -> list[Column]:
    """The columns of the table."""
    return list(_COLUMNS)


def case_rows(cases: Sequence[ShownCase], suspicions: Sequence[Suspicion], pictures: dict[str, str]) -> list[CaseRow]:
    """The lines of the table, in the order of the cases. `pictures`: data URIs by the cases' names."""
    titles = {kind.key: kind.title for kind in KINDS}
    rows = []
    for case in cases:
        own = [one.kind for one in suspicions if one.case is case]
        contrast = {True: "contrast", False: "native", None: "unclear"}[has_contrast(case)]
        kinds = [case.annotation.replace(" ", "-"), contrast, _SUSPECT if own else _PLAIN, *own]
        rows.append(
            CaseRow(
                name=case.name,
                cells=_cells(case),
                suspicions=[titles[kind] for kind in own],
                notes=list(case.info.notes),
                kinds=" ".join(kinds),
                picture=pictures.get(case.name),
            )
        )
    return rows


def _cells(case: ShownCase) -> list[TableCell]:
    source = case.measures.source if case.measures is not None else None
    values: dict[str, float | str | None] = {
        "annotation": case.annotation,
        "split": case.split,
        "nodes": nodes_of(case),
        "short_axis": max(source.short_axes_mm, default=None) if source else None,
        "volume": sum(case.info.node_volumes_mm3) / 1000,
        "blood": case.measures.blood_hu if case.measures else None,
        "slices": source.spacing_mm[0] if source else None,
        "pixel": source.spacing_mm[2] if source else None,
        "field": source.field_mm[2] if source else None,
        "certain": 100 * case.certain.share_of_region if case.certain else None,
    }
    return [cell_of(values[column.key], column) for column in _COLUMNS[1:-1]]


def filters(rows: Sequence[CaseRow]) -> list[tuple[str, str, int]]:
    """What the table can be filtered by: key, text and number of cases. What no case has is left out."""
    texts = {
        _SUSPECT: "with suspicions",
        _PLAIN: "without suspicions",
        **{kind.key: kind.title for kind in KINDS},
        PARTIAL: "annotated in part",
        FULL: "annotated in full",
        THREE_STATES.replace(" ", "-"): "with unknown voxels",
        "contrast": "with contrast medium",
        "native": "without contrast medium",
    }
    counts = {kind: sum(kind in row.kinds.split() for row in rows) for kind in texts}
    return [("all", "all", len(rows)), *((kind, text, counts[kind]) for kind, text in texts.items() if counts[kind])]
