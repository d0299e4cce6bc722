"""Write a CT's candidates to a folder, and all of a run into one table."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnq.files import replace_atomically, replace_folder
from lnq.image.itk import write_volume
from lnq.plain import to_plain
from training.review.candidates import Candidate, Found

CANDIDATES_JSON, CANDIDATES_CSV = "candidates.json", "candidates.csv"
NUMBERS, PROBABILITY = "candidates.nii.gz", "probability.nii.gz"
REVIEW_HTML = "review.html"


@dataclass(frozen=True)
class CandidateRow:
    """A line of the table: a candidate of a case, rounded to 0.1 mm and 0.001."""

    case: str
    number: int
    worth: float
    score: float
    agreement: float
    level: float
    short_axis_mm: float
    long_axis_mm: float
    volume_mm3: float
    l_mm: float
    p_mm: float
    s_mm: float
    side: str | None
    above_carina_mm: float | None


def row_of(case: str, candidate: Candidate) -> CandidateRow:
    """A candidate as a line of the table."""
    node = candidate.node
    left, posterior, superior = (round(value, 1) for value in node.centroid_lps_mm)
    height = node.above_carina_mm
    return CandidateRow(
        case, node.number, round(candidate.worth, 3), round(candidate.score, 3), round(candidate.agreement, 3),
        round(candidate.level, 3), round(node.short_axis_mm, 1), round(node.long_axis_mm, 1), round(node.volume_mm3, 1),
        left, posterior, superior, node.side, None if height is None else round(height, 1),
    )  # fmt: skip


def list_of(case: str, found: Found, made_from: dict[str, Any], ct: str) -> dict[str, Any]:
    """A CT's list of candidates as plain data. `made_from` tells what they depend on, `ct` is the CT's hash."""
    rows = [to_plain(row_of(case, candidate)) for candidate in found.candidates]
    own = {"candidates": rows, "starts": found.starts_mm, "annotated": found.annotated}
    content: dict[str, Any] = json.loads(json.dumps({"case": case, "made_from": made_from, "ct": ct, **own}))
    return content


def write_found(folder: Path, content: dict[str, Any], found: Found, page: bytes | None = None) -> None:
    """Write a CT's candidates: the list, their numbers and the probability on the CT's grid, and the page.

    The folder appears complete or not at all.
    """
    part, before = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "before"))
    for left in (part, before):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write_volume(found.numbers, part / NUMBERS)
        write_volume(found.probability, part / PROBABILITY)
        if page is not None:
            (part / REVIEW_HTML).write_bytes(page)
        (part / CANDIDATES_JSON).write_text(json.dumps(content, indent=1) + "\n")
        replace_folder(part, folder, before)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_found(folder: Path) -> dict[str, Any]:
    """The content of a folder's list; empty where there is none, or where it is damaged."""
    try:
        content = json.loads((folder / CANDIDATES_JSON).read_text())
        wanted = {"case", "made_from", "ct", "candidates", "starts"}
        return content if isinstance(content, dict) and wanted <= content.keys() else {}
    except (OSError, ValueError):
        return {}


def write_table(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the candidates of all cases as CSV, the most worthwhile first."""
    ordered: Sequence[dict[str, Any]] = sorted(rows, key=lambda row: (-row["worth"], row["case"], row["number"]))
    with replace_atomically(path) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, list(CandidateRow.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
