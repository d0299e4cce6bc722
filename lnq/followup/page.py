"""Write the page of a comparison: a figure for each state, the sum of short axes, and a row and a picture per node."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lnq.files import write_bytes
from lnq.followup.change import Change, difference
from lnq.followup.comparison import COMPARISON_CSV, COMPARISON_PAGE, FollowUp, TargetSum
from lnq.followup.match import STATES
from lnq.followup.pictures import View, picture
from lnq.followup.register import Alignment
from lnq.followup.time_point import TimePoint
from lnq.report.render import render
from lnq.report.tables import Column, Figure, TableCell, cell_of, number, versions_text
from lnq.results.case_record import PAGE, REPORT, SEGMENTS

_ASSETS = Path(__file__).with_name("assets")
_COLUMNS = (
    Column("identifier", "Node", numeric=False, large_first=False),
    Column("state", "State", numeric=False, large_first=False),
    Column("numbers", "Numbers", "earlier → later", numeric=False, large_first=False),
    Column("station", "Station", numeric=False, large_first=False),
    Column("short", "Short axis", "mm", 1),
    Column("short_change", "Change", "mm", 1),
    Column("long", "Long axis", "mm", 1),
    Column("volume", "Volume", "mm³", 0),
    Column("volume_change", "Change", "%", 0),
)
_NONE = "\u2013"


def write_page(
    folder: Path,
    comparison: FollowUp,
    points: tuple[TimePoint, TimePoint],
    alignment: Alignment,
    output: Path | None = None,
) -> None:
    """Write the page into a folder that holds the comparison's other files. All may be moved into `output` later.

    Raises ImportError without jinja2, and OSError where it cannot be written.
    """
    views = View.of(points[0]), View.of(points[1])
    rows = []
    for change in comparison.changes:
        jpeg = picture(*views, change, alignment)
        rows.append({"change": change, "cells": _cells(change), "picture": base64.b64encode(jpeg).decode()})
    context = {
        "title": f"{points[0].title} to {points[1].title}",
        "figures": _figures(comparison),
        "warnings": comparison.warnings,
        "sums": _sums(comparison.sums),
        "columns": _COLUMNS,
        "rows": rows,
        "cases": [
            _case(output or folder, name, point) for name, point in zip(("Earlier", "Later"), points, strict=True)
        ],
        "files": [name for name in (COMPARISON_CSV, SEGMENTS, REPORT) if (folder / name).is_file()],
        "versions": list(dict.fromkeys(versions_text(point.record) for point in points)),
    }
    page = render(
        "comparison.html", ("page.css", "index.css", "comparison.css"), ("sort.js", "comparison.js"), context, _ASSETS
    )
    write_bytes(folder / COMPARISON_PAGE, page)


def _figures(comparison: FollowUp) -> list[Figure]:
    counts = Counter(change.state for change in comparison.changes)
    shown = [state for state in STATES if counts[state] or state in ("same", "new", "gone")]
    figures = [Figure(state, number(counts[state])) for state in shown]
    if comparison.sums and comparison.sums[0].mm is not None and comparison.sums[-1].mm is not None:
        by, percent = difference(comparison.sums[0].mm, comparison.sums[-1].mm)
        text = _signed(by, 1, "mm") if percent is None else _signed(percent, 0, "%")
        figures.append(Figure("sum of short axes of target nodes", text))
    return figures


def _sums(sums: Sequence[TargetSum]) -> list[dict[str, str]]:
    """The sum at each time, its change from the first one, and from the smallest one before."""
    lines = []
    for index, one in enumerate(sums):
        line = {"title": one.title, "mm": "not all shown" if one.mm is None else number(one.mm, 1)}
        known = [other.mm for other in sums[:index] if other.mm is not None]
        for key, before in (("first", sums[0].mm if index else None), ("least", min(known, default=None))):
            line[key] = ""
            if before is not None and one.mm is not None:
                by, percent = difference(before, one.mm)
                line[key] = _signed(by, 1, "mm") + (f" ({_signed(percent, 0, '%')})" if percent is not None else "")
        lines.append(line)
    return lines


def _signed(value: float, decimals: int, unit: str) -> str:
    text = number(value, decimals)
    return f"{'+' if round(value, decimals) > 0 else ''}{text} {unit}"


def _cells(change: Change) -> list[TableCell]:
    by_mm = change.difference("short_axis_mm")
    volume = change.difference("volume_mm3")
    percent = volume[1] if volume else None
    numbers = f"{', '.join(map(str, change.earlier)) or _NONE} → {', '.join(map(str, change.later)) or _NONE}"
    values = {
        "identifier": f"{_named(change)}, target" if change.is_target else _named(change),
        "state": change.state,
        "numbers": numbers,
        "station": change.station,
    }
    return [
        *(cell_of(values[column.key], column) for column in _COLUMNS[:4]),
        _both(change, "short_axis_mm", 1),
        _change(by_mm[0] if by_mm else None, 1),
        _both(change, "long_axis_mm", 1),
        _both(change, "volume_mm3", 0),
        _change(percent, 0),
    ]


def _named(change: Change) -> str:
    """The names of the later nodes, and what merged into one."""
    names = ", ".join(change.later_names or change.earlier_names)
    return f"{names} (of {' and '.join(change.earlier_names)})" if change.state == "merged" else names


def _both(change: Change, measure: str, decimals: int) -> TableCell:
    """A measure in both CTs, sorted by the larger one."""
    sizes = [getattr(size, measure, None) for size in (change.before, change.after)]
    texts = [_NONE if size is None else number(size, decimals) for size in sizes]
    return TableCell("\u00a0→ ".join(texts), max(size for size in sizes if size is not None))


def _change(value: float | None, decimals: int) -> TableCell:
    return TableCell("", "") if value is None else TableCell(_signed(value, decimals, "").strip(), value)


def _case(folder: Path, name: str, point: TimePoint) -> dict[str, Any]:
    """A CT's name and its page, where that lies below the folder of the comparison."""
    page = point.folder / PAGE
    is_below = page.is_file() and page.resolve().is_relative_to(folder.resolve())
    address = quote(os.fsencode(page.resolve().relative_to(folder.resolve()))) if is_below else None
    return {"name": name, "title": point.title, "case": point.record.case, "nodes": len(point.rows), "address": address}
