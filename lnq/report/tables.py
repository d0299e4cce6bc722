"""Tables and figures of the report's pages. Each cell holds its text and the value to sort by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lnq.nodes.measure import SHORT_AXES_MM
from lnq.plain import to_plain
from lnq.results.case_record import DONE, FAILED, SKIPPED, CaseRecord
from lnq.results.node_table import NodeRow

HASHES = ("model", "weights")  # those of a case's versions that are hashes
SIZES = ("small", "medium", "large")  # by the short axis: below, between, and from the second of SHORT_AXES_MM


@dataclass(frozen=True)
class Column:
    """A column of one of the tables."""

    key: str
    name: str
    unit: str = ""
    decimals: int = 0
    help: str = ""
    numeric: bool = True
    large_first: bool = True  # whether the first click sorts it from large to small
    wide: bool = False


@dataclass(frozen=True)
class TableCell:
    text: str
    value: float | int | str  # for sorting; "" always comes last
    numeric: bool = True


@dataclass
class NodeLine:
    number: int
    size: str  # one of SIZES
    cells: list[TableCell]


@dataclass
class CaseLine:
    name: str
    status: str
    error: str
    warnings: list[str]
    seconds: float
    nodes: int
    short_axes_mm: list[float]  # one for each of its nodes
    cells: list[TableCell]
    page: str | None = None  # address of its page; None where there is none
    picture: str | None = None  # address of its preview; None where there is none
    kinds: str = field(init=False)  # keys that the table can be filtered by, with blanks between

    def __post_init__(self) -> None:
        pathological, target = SHORT_AXES_MM
        largest = max(self.short_axes_mm, default=0.0)
        kinds = {
            "warnings": bool(self.warnings),
            "medium": largest >= pathological,
            "large": largest >= target,
            "none": self.status == DONE and not self.nodes,
        }
        self.kinds = " ".join([self.status, *(kind for kind, is_so in kinds.items() if is_so)])

    @property
    def notes(self) -> int:
        """The number of warnings and errors."""
        return len(self.warnings) + bool(self.error)


_NODE_COLUMNS = (
    Column("number", "Node", help="Number, from the head downwards", large_first=False),
    Column("short_axis_mm", "Short axis", "mm", 1, "In the axial slice in which it is largest"),
    Column("long_axis_mm", "Long axis", "mm", 1, "In the same slice"),
    Column("diameter_mm", "3-D diameter", "mm", 1, "The longest straight line within the node"),
    Column("volume_mm3", "Volume", "mm³"),
    Column("mean_hu", "Density", "HU", 0, "Mean of the node"),
    Column("mean_probability", "Score", "0 to 1", 2, "Mean of the model's output in the node"),
    Column("side", "Side", "", numeric=False, large_first=False),
    Column("above_carina_mm", "Above carina", "mm", 0, "Above the carina; below it negative"),
    Column("station", "Station", "", 0, "IASLC, coarsely, by its place from the carina", False, large_first=False),
    Column("s_mm", "Level S", "mm", 1, "Patient coordinate to the head, as DICOM's slice location often is"),
    Column("agreement", "Agreement", "0 to 1", 2, "Share of the model's networks that mark at least half of the node"),
)
_CASE_COLUMNS = (
    Column("nodes", "Nodes"),
    Column("short_axis_mm", "Largest short axis", "mm", 1),
    Column("volume_mm3", "Node volume", "cm³", 2),
    Column("dice", "Dice", "of 1", 3, large_first=False),
    Column("assd_mm", "ASSD", "mm", 2),
    Column("seconds", "Time", "s", 1),
)
_OPTIONAL = ("dice", "assd_mm")  # columns that are shown only where there are scores


def node_lines(rows: Sequence[NodeRow]) -> tuple[list[NodeLine], list[Column]]:
    """The table of a case's nodes, and its columns: that of the agreement only where several networks were run."""
    has_agreement = any(row.agreement is not None for row in rows)
    columns = [column for column in _NODE_COLUMNS if column.key != "agreement" or has_agreement]
    lines = []
    for row in rows:
        values = to_plain(row)
        lines.append(NodeLine(row.number, size_of(row), [cell_of(values[c.key], c) for c in columns]))
    return lines, columns


def size_of(row: NodeRow) -> str:
    """The size of a node, one of SIZES."""
    return SIZES[sum(row.short_axis_mm >= limit for limit in SHORT_AXES_MM)]


def sizes() -> list[tuple[str, str]]:
    """Each size with a text on its range."""
    low, high = SHORT_AXES_MM
    texts = (f"below {low:g} mm", f"{low:g} to {high:g} mm", f"{high:g} mm and more")
    return list(zip(SIZES, texts, strict=True))


def case_lines(records: Sequence[CaseRecord], rows: Iterable[NodeRow]) -> tuple[list[CaseLine], list[Column]]:
    """The table of all cases, in the manifest's order, and its columns."""
    of_case: dict[str, list[NodeRow]] = defaultdict(list)
    for row in rows:
        of_case[row.case].append(row)
    with_truth = any(record.scores for record in records)
    numbers = [c for c in _CASE_COLUMNS if with_truth or c.key not in _OPTIONAL]
    texts = [
        Column("case", "Case", numeric=False, large_first=False, wide=True),
        Column("status", "Status", numeric=False, large_first=False),
    ]
    columns = [*texts, *numbers, Column("notes", "Warnings, errors", numeric=False)]
    return [_case_line(record, of_case[record.case], numbers) for record in records], columns


def _case_line(record: CaseRecord, rows: Sequence[NodeRow], columns: Sequence[Column]) -> CaseLine:
    axes = [row.short_axis_mm for row in rows]
    findings, scores = record.findings, record.scores
    values: dict[str, float | None] = {
        "nodes": findings.nodes if findings else None,
        "short_axis_mm": max(axes, default=None),
        "volume_mm3": findings.volume_mm3 / 1000 if findings else None,
        "dice": scores.dice if scores else None,
        "assd_mm": scores.assd_mm if scores else None,
        "seconds": record.seconds,
    }
    return CaseLine(
        name=record.case,
        status=record.status,
        error=record.error or "",
        warnings=list(record.warnings),
        seconds=record.seconds or 0.0,
        nodes=findings.nodes if findings else 0,
        short_axes_mm=axes,
        cells=[cell_of(values[column.key], column) for column in columns],
    )


@dataclass(frozen=True)
class Figure:
    """A number that describes the whole run. `alarm` says that it needs attention."""

    name: str
    text: str
    alarm: bool = False


def figures(cases: Sequence[CaseLine]) -> list[Figure]:
    """The figures of a whole run."""
    statuses = Counter(case.status for case in cases)
    axes = [axis for case in cases for axis in case.short_axes_mm]
    others = len(cases) - statuses[DONE] - statuses[FAILED] - statuses[SKIPPED]
    found = [
        Figure("cases done", number(statuses[DONE])),
        Figure("failed", number(statuses[FAILED]), statuses[FAILED] > 0),
        Figure("skipped", number(statuses[SKIPPED])),
        Figure("cases with warnings", number(sum(bool(case.warnings) for case in cases))),
        Figure("nodes", number(sum(case.nodes for case in cases))),
        *(
            Figure(f"nodes ≥ {limit:g} mm short axis", number(sum(axis >= limit for axis in axes)))
            for limit in SHORT_AXES_MM
        ),
        Figure("computing time", duration(sum(case.seconds for case in cases)) or "none"),
    ]
    return [*found, Figure("of another status", number(others), True)] if others else found


def summary(record: CaseRecord, rows: Sequence[NodeRow]) -> str:
    """A case's outcome in one line."""
    count = len(rows)
    parts = [f"{number(count) if count else 'No'} node{'' if count == 1 else 's'} found"]
    axes = [row.short_axis_mm for row in rows]
    if rows:
        large = [f"{number(sum(axis >= limit for axis in axes))} ≥ {limit:g} mm" for limit in SHORT_AXES_MM]
        parts.append(f"short axis: {', '.join(large)}")
    if rows and record.findings is not None:
        parts.append(f"{number(record.findings.volume_mm3 / 1000, 2)} cm³ in all")
    if record.scores is not None:
        against, distance_mm = f"Dice {number(record.scores.dice, 3)}", record.scores.assd_mm
        parts.append(against if distance_mm is None else f"{against}, ASSD {number(distance_mm, 2)} mm")
    return " · ".join(parts)


def versions_text(record: CaseRecord) -> str:
    """The versions that made a case's result, with hashes cut to their first 12 digits."""
    if record.versions is None:
        return "an unknown version"
    versions = record.versions.plain()
    return ", ".join(f"{name} {value[: 12 if name in HASHES else None]}" for name, value in versions.items())


def all_versions(records: Iterable[CaseRecord]) -> list[str]:
    """One sentence for each set of versions that made results, with the commonest first."""
    count = Counter(versions_text(record) for record in records if record.versions is not None)
    if len(count) == 1:
        return [f"Made by {text}." for text in count]
    return [f"{number(cases)} case{'' if cases == 1 else 's'} made by {text}." for text, cases in count.most_common()]


def duration(seconds: float | None) -> str:
    """A time as text, such as "14.3 s", "2 min 5 s" or "3 h 20 min"; "" where it is not known."""
    if seconds is None or not seconds >= 0:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, rest_minutes = divmod(minutes, 60)
    return f"{hours:,} h {rest_minutes} min".replace(",", "\u202f") if hours else f"{minutes} min {rest} s"


def number(value: float, decimals: int = 0) -> str:
    """A number as text, with a true minus sign and narrow spaces between thousands."""
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace(",", "\u202f").replace("-", "\u2212")


def cell_of(value: float | str | None, column: Column) -> TableCell:
    """The cell of a value; blank for None."""
    if value is None:
        return TableCell("", "", column.numeric)
    if isinstance(value, str):
        return TableCell(value, value, column.numeric)
    return TableCell(number(value, column.decimals), value, column.numeric)
