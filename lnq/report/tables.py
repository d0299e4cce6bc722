"""The tables and figures of the report's pages, as text with the value that it is sorted by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lnq.nodes.measure import SHORT_AXES_MM
from lnq.results.node_table import Entry, Row

HASHES = ("model", "weights")  # among a case's versions
SIZES = ("small", "medium", "large")  # by the short axis: below, between, from SHORT_AXES_MM on


@dataclass(frozen=True)
class Column:
    """A column of numbers in one of the tables."""

    key: str
    name: str
    unit: str = ""
    decimals: int = 0
    help: str = ""
    numeric: bool = True
    large_first: bool = True  # when it is sorted first
    wide: bool = False


@dataclass(frozen=True)
class Cell:
    text: str
    value: float | int | str  # what it is sorted by; "" comes last
    numeric: bool = True


@dataclass
class NodeRow:
    number: Any
    size: str  # one of SIZES
    cells: list[Cell]


@dataclass
class CaseRow:
    name: str
    status: str
    error: str
    warnings: list[str]
    seconds: float
    nodes: int
    short_axes_mm: list[float]  # of its nodes
    cells: list[Cell]
    page: str | None = None  # addresses, where there are such files
    picture: str | None = None
    kinds: str = field(init=False)  # what it can be filtered by

    def __post_init__(self) -> None:
        pathological, target = SHORT_AXES_MM
        largest = max(self.short_axes_mm, default=0.0)
        kinds = {
            "warnings": bool(self.warnings),
            "medium": largest >= pathological,
            "large": largest >= target,
            "none": self.status == "done" and not self.nodes,
        }
        self.kinds = " ".join([self.status, *(kind for kind, is_so in kinds.items() if is_so)])

    @property
    def notes(self) -> int:
        """How many there are, an error among them."""
        return len(self.warnings) + bool(self.error)


NODE_COLUMNS = (
    Column("number", "Node", help="Number, from the head downwards", large_first=False),
    Column("short_axis_mm", "Short axis", "mm", 1, "In the axial slice in which it is largest"),
    Column("long_axis_mm", "Long axis", "mm", 1, "In the same slice"),
    Column("diameter_mm", "3-D diameter", "mm", 1, "The longest straight line within the node"),
    Column("volume_mm3", "Volume", "mm³"),
    Column("mean_hu", "Density", "HU", 0, "Mean of the node"),
    Column("mean_probability", "Score", "0 to 1", 2, "Mean of the model's output in the node"),
    Column("side", "Side", "", numeric=False, large_first=False),
    Column("above_carina_mm", "Above carina", "mm", 0, "Above the carina; below it negative"),
    Column("s_mm", "Level S", "mm", 1, "Patient coordinate to the head, as DICOM's slice location often is"),
)
_CASE_COLUMNS = (
    Column("nodes", "Nodes"),
    Column("short_axis_mm", "Largest short axis", "mm", 1),
    Column("volume_mm3", "Node volume", "cm³", 2),
    Column("dice", "Dice", "of 1", 3, large_first=False),
    Column("assd_mm", "ASSD", "mm", 2),
    Column("seconds", "Time", "s", 1),
)
_OPTIONAL = ("dice", "assd_mm")  # only where a truth was given


def node_rows(rows: Iterable[Row]) -> list[NodeRow]:
    """The table of a case's nodes."""
    return [
        NodeRow(row.get("number"), size_of(row), [_cell(row.get(column.key), column) for column in NODE_COLUMNS])
        for row in rows
    ]


def size_of(row: Row) -> str:
    """One of SIZES."""
    short_axis_mm = _number(row.get("short_axis_mm"))
    return SIZES[sum((short_axis_mm or 0.0) >= limit for limit in SHORT_AXES_MM)]


def sizes() -> list[tuple[str, str]]:
    """What each size stands for."""
    low, high = SHORT_AXES_MM
    texts = (f"below {low:g} mm", f"{low:g} to {high:g} mm", f"{high:g} mm and more")
    return list(zip(SIZES, texts, strict=True))


def case_rows(entries: Iterable[Entry], rows: Iterable[Row]) -> tuple[list[CaseRow], list[Column]]:
    """The table of all cases, in the manifest's order, and its columns."""
    of_case: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of_case[row["case"]].append(row)
    entries = list(entries)
    numbers = [c for c in _CASE_COLUMNS if c.key not in _OPTIONAL or any(c.key in entry for entry in entries)]
    texts = [
        Column("case", "Case", numeric=False, large_first=False, wide=True),
        Column("status", "Status", numeric=False, large_first=False),
    ]
    columns = [*texts, *numbers, Column("notes", "Warnings, errors", numeric=False)]
    return [_case_row(entry, of_case[entry["case"]], numbers) for entry in entries], columns


def _case_row(entry: Entry, rows: Sequence[Row], columns: Sequence[Column]) -> CaseRow:
    axes = [axis for row in rows if (axis := _number(row.get("short_axis_mm"))) is not None]
    volume_mm3 = _number(entry.get("volume_mm3"))
    values = entry | {
        "short_axis_mm": max(axes, default=None),
        "volume_mm3": None if volume_mm3 is None else volume_mm3 / 1000,
    }
    return CaseRow(
        name=entry["case"],
        status=str(entry["status"]),
        error=str(entry.get("error") or ""),
        warnings=[str(warning) for warning in entry.get("warnings") or []],
        seconds=_number(entry.get("seconds")) or 0.0,
        nodes=int(_number(entry.get("nodes")) or 0),
        short_axes_mm=axes,
        cells=[_cell(values.get(column.key), column) for column in columns],
    )


@dataclass(frozen=True)
class Figure:
    """A number of the whole run."""

    name: str
    text: str
    alarm: bool = False


def figures(cases: Sequence[CaseRow]) -> list[Figure]:
    """What a run came to."""
    statuses = Counter(case.status for case in cases)
    axes = [axis for case in cases for axis in case.short_axes_mm]
    others = len(cases) - statuses["done"] - statuses["failed"] - statuses["skipped"]
    found = [
        Figure("cases done", number(statuses["done"])),
        Figure("failed", number(statuses["failed"]), statuses["failed"] > 0),
        Figure("skipped", number(statuses["skipped"])),
        Figure("cases with warnings", number(sum(bool(case.warnings) for case in cases))),
        Figure("nodes", number(sum(case.nodes for case in cases))),
        *(
            Figure(f"nodes ≥ {limit:g} mm short axis", number(sum(axis >= limit for axis in axes)))
            for limit in SHORT_AXES_MM
        ),
        Figure("computing time", duration(sum(case.seconds for case in cases)) or "none"),
    ]
    return [*found, Figure("of another status", number(others), True)] if others else found


def summary(entry: Entry, rows: Sequence[Row]) -> str:
    """A case's outcome in one line."""
    count = len(rows)
    parts = [f"{number(count) if count else 'No'} node{'' if count == 1 else 's'} found"]
    axes = [_number(row.get("short_axis_mm")) or 0.0 for row in rows]
    if rows:
        large = [f"{number(sum(axis >= limit for axis in axes))} ≥ {limit:g} mm" for limit in SHORT_AXES_MM]
        parts.append(f"short axis: {', '.join(large)}")
    volume_mm3 = _number(entry.get("volume_mm3"))
    if rows and volume_mm3 is not None:
        parts.append(f"{number(volume_mm3 / 1000, 2)} cm³ in all")
    overlap, distance_mm = _number(entry.get("dice")), _number(entry.get("assd_mm"))
    if overlap is not None:
        against = f"Dice {number(overlap, 3)}"
        parts.append(against if distance_mm is None else f"{against}, ASSD {number(distance_mm, 2)} mm")
    return " · ".join(parts)


def versions_text(entry: Entry) -> str:
    """What a case was made by; of hashes the first digits."""
    versions = entry.get("versions")
    if not isinstance(versions, dict) or not versions:
        return "an unknown version"
    return ", ".join(f"{name} {str(value)[: 12 if name in HASHES else None]}" for name, value in versions.items())


def all_versions(entries: Iterable[Entry]) -> list[str]:
    """A sentence per set of versions that cases were made by, the commonest first."""
    count = Counter(versions_text(entry) for entry in entries if entry.get("versions"))
    if len(count) == 1:
        return [f"Made by {text}." for text in count]
    return [f"{number(cases)} case{'' if cases == 1 else 's'} made by {text}." for text, cases in count.most_common()]


def duration(seconds: Any) -> str:
    """Like "14.3 s", "2 min 5 s" or "3 h 20 min"; "" for what is no number."""
    value = _number(seconds)
    if value is None or not value >= 0:
        return ""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, rest_minutes = divmod(minutes, 60)
    return f"{hours:,} h {rest_minutes} min".replace(",", "\u202f") if hours else f"{minutes} min {rest} s"


def number(value: float, decimals: int = 0) -> str:
    """With a true minus sign and narrow spaces between thousands."""
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace(",", "\u202f").replace("-", "\u2212")


def _cell(value: Any, column: Column) -> Cell:
    """Blank for None, and what is no number as it is."""
    if value is None:
        return Cell("", "", column.numeric)
    known = _number(value)
    if not column.numeric or known is None:
        return Cell(str(value), str(value), column.numeric)
    return Cell(number(known, column.decimals), known, column.numeric)


def _number(value: Any) -> float | None:
    """What is a number, but for true and false, else None."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
