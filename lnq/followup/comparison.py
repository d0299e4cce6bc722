"""A comparison of two CTs, as `comparison.json` and `comparison.csv` hold it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnq.errors import StartError
from lnq.files import write_text
from lnq.followup.change import Change
from lnq.plain import check_types, from_plain, to_plain
from lnq.results.dicom_common import Track
from lnq.text import in_cell

COMPARISON_JSON, COMPARISON_CSV, COMPARISON_PAGE = "comparison.json", "comparison.csv", "comparison.html"
FORMAT = 1  # of comparison.json
_MEASURES = ("short_axis_mm", "long_axis_mm", "volume_mm3")


@dataclass(frozen=True)
class Compared:
    """One of the two results."""

    folder: str  # relative to the comparison's, if it lies within
    case: str
    date: str | None  # YYYY-MM-DD
    mask_sha256: str


@dataclass(frozen=True)
class TargetSum:
    """The sum of the target nodes' short axes at one time."""

    title: str  # day of the CT, else its name
    mm: float | None  # None where the CT does not show all of them


@dataclass(frozen=True)
class FollowUp:
    """Two CTs of one patient, and what the next comparison needs to know."""

    earlier: Compared
    later: Compared
    first: str  # SHA-256 of the first CT's mask
    overlap: float  # Dice of the two mediastinal regions after the alignment
    changes: tuple[Change, ...]
    tracks: tuple[Track, ...]  # of the later nodes, by number
    used: tuple[str, ...]  # identifiers that no new node may get
    targets: tuple[str, ...]  # UIDs of the later nodes that the target nodes became
    sums: tuple[TargetSum, ...]  # from the first CT to the later one; none without target nodes
    warnings: tuple[str, ...] = ()


def write_json(folder: Path, comparison: FollowUp, version: str) -> None:
    """Write `comparison.json`. Raises OSError where it cannot be written."""
    plain = {"format": FORMAT, "lnq": version, "notice": "Not for clinical use.", **to_plain(comparison)}
    write_text(folder / COMPARISON_JSON, json.dumps(plain, indent=1) + "\n")


def read_json(folder: Path) -> FollowUp:
    """Read `comparison.json`. Raises StartError where it is damaged or of another version."""
    path = folder / COMPARISON_JSON
    try:
        plain: dict[str, Any] = json.loads(path.read_text())
        if plain.pop("format") != FORMAT:
            raise ValueError("another format")
        comparison = from_plain(
            FollowUp, {name: value for name, value in plain.items() if name not in ("lnq", "notice")}
        )
        check_types(comparison)
        return comparison
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise StartError(f"{path} is damaged, or of another version of lnq: compare those CTs again") from None


def write_csv(folder: Path, changes: Sequence[Change]) -> None:
    """Write `comparison.csv`, a line per change. Raises OSError where it cannot be written."""
    text = io.StringIO()
    columns = ["node", "tracking_uid", "state", "earlier", "later", "earlier_nodes", "later_nodes"]
    columns += ["station", "target"]
    for measure in _MEASURES:
        name, unit = measure.rsplit("_", 1)
        columns += [f"{name}_earlier_{unit}", f"{name}_later_{unit}", f"{name}_change_{unit}", f"{name}_change_percent"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for change in changes:
        cells: list[Any] = [
            in_cell(change.identifier),
            change.uid,
            change.state,
            " ".join(map(str, change.earlier)),
            " ".join(map(str, change.later)),
            in_cell("; ".join(change.earlier_names)),
            in_cell("; ".join(change.later_names)),
            change.station,
            "yes" if change.is_target else "no",
        ]
        for measure in _MEASURES:
            by, percent = change.difference(measure) or (None, None)
            cells += [getattr(change.before, measure, None), getattr(change.after, measure, None), by, percent]
        writer.writerow(cells)
    write_text(folder / COMPARISON_CSV, text.getvalue())
