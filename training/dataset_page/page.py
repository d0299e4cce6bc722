"""Write the page of a prepared data set: `dataset.html`, one file that works offline."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lnq.files import write_bytes
from lnq.image.plausible import CONTRAST_HU
from lnq.report.render import render
from training.data.dataset_info import read_dataset_info
from training.data.prepared import PreparedCase
from training.dataset_page.cases import ShownCase, read_cases
from training.dataset_page.figures import figure_groups, histograms
from training.dataset_page.mirrored import FEWEST_PATIENTS
from training.dataset_page.pictures import case_picture, chest_picture, spot_picture
from training.dataset_page.suspicions import KINDS, Suspicion, SuspicionKind, find_suspicions
from training.dataset_page.table import case_rows, columns, filters

PAGE = "dataset.html"
MOST_SPOTS = 24  # suspicions of a kind that get a picture of some 25 KB: 4 MB for all kinds
MOST_CASES = 500  # cases that get a picture of some 15 KB: 8 MB
_ASSETS = Path(__file__).with_name("assets")


@dataclass(frozen=True)
class ShownSuspicion:
    """A suspicion as the page shows it."""

    case: str
    text: str
    picture: str | None  # a data URI


@dataclass(frozen=True)
class ShownKind:
    """All suspicions of a kind."""

    kind: SuspicionKind
    with_pictures: list[ShownSuspicion]
    others: list[ShownSuspicion]


def report_dataset(data: Path, console: Console) -> None:
    """Write the page, and say in one line where it is, or why there is none: training does without.

    Raises OSError where the disk fails.
    """
    try:
        count = write_dataset_page(data)
    except ImportError:
        console.print(f"{PAGE} is not written: it needs jinja2")
    except ValueError as error:
        console.print(f"{PAGE} is not written: {error}")
    else:
        found = f"{count} things look" if count > 1 else "one thing looks" if count else "nothing looks"
        console.print(f"{data / PAGE}: {found} wrong")


def write_dataset_page(data: Path) -> int:
    """Write `data/dataset.html`; returns how many suspicions it shows.

    Raises ImportError without jinja2, ValueError where the folder was not prepared to its end or a case is damaged, and
    OSError where the page cannot be written.
    """
    info, cases = read_dataset_info(data), read_cases(data)
    suspicions = find_suspicions(cases)
    pictures = dict(_case_pictures(cases[:MOST_CASES]))
    rows = case_rows(cases, suspicions, pictures)
    context = {
        "title": f"Training data: {data.resolve().name}",
        "groups": figure_groups(cases, len(info.failed)),
        "histograms": histograms(cases),
        "kinds": [shown for kind in KINDS if (shown := _shown(kind, suspicions)).with_pictures],
        "suspicions": len(suspicions),
        "suspect_cases": len({one.case.name for one in suspicions}),
        "checks": [kind.title for kind in KINDS],
        "unjudged": list(_unjudged(cases)),
        "failed": info.failed,
        "columns": columns(),
        "rows": rows,
        "filters": filters(rows),
        "has_pictures": bool(pictures),
        "without_pictures": max(0, len(cases) - MOST_CASES),
        "contrast_hu": CONTRAST_HU,
        "sources": info.provenance.get("sources", []),
        "commit": info.provenance.get("commit", ""),
        "spacing_mm": info.spacing_mm,
    }
    page = render("dataset.html", ("page.css", "index.css", "dataset.css"), ("sort.js", "index.js"), context, _ASSETS)
    write_bytes(data / PAGE, page)
    return len(suspicions)


def _case_pictures(cases: Sequence[ShownCase]) -> Iterator[tuple[str, str]]:
    for case in cases:
        picture = _picture(case, case_picture)
        if picture is not None:
            yield case.name, picture


def _shown(kind: SuspicionKind, suspicions: Sequence[Suspicion]) -> ShownKind:
    own = [one for one in suspicions if one.kind == kind.key]
    shown = [
        ShownSuspicion(one.case.name, one.text, _spot(one) if index < MOST_SPOTS else None)
        for index, one in enumerate(own)
    ]
    return ShownKind(kind, shown[:MOST_SPOTS], shown[MOST_SPOTS:])


def _spot(one: Suspicion) -> str | None:
    """The picture of a suspicion."""
    spot, measures = one.spot, one.case.measures
    if spot is None:
        return _picture(one.case, chest_picture if one.kind == "mirrored" else case_picture)
    moved = measures.shift.best_mm if one.kind == "shifted" and measures and measures.shift else None
    return _picture(one.case, lambda case: spot_picture(case, spot, moved))


def _picture(case: ShownCase, draw: Callable[[PreparedCase], bytes]) -> str | None:
    """A picture as a data URI; None where the case's arrays cannot be read, which training will tell."""
    try:
        return f"data:image/jpeg;base64,{base64.b64encode(draw(PreparedCase(case.folder))).decode()}"
    except (OSError, ValueError):
        return None


def _unjudged(cases: Sequence[ShownCase]) -> Iterator[str]:
    """What could not be looked at, one sentence each."""
    measured = [case.measures for case in cases if case.measures is not None]
    sourceless = sum(one.source is None for one in measured)
    lungless = sum(one.sides is None for one in measured)
    unoriented = sum(one.source is not None and not one.source.oriented for one in measured)
    if len(measured) < len(cases):
        yield f"{_cases(len(cases) - len(measured))} not measured: run training.prepare again."
    if sourceless:
        lacking = "slivers, short axes and spacings are missing"
        yield f"{_cases(sourceless)} not measured on the source's own grid: {lacking}."
    if lungless:
        lacking = "sides, places and the region are not judged"
        yield f"{_cases(lungless)} without two lungs or a region between them: {lacking}."
    if unoriented:
        yield f"{_cases(unoriented)} of a file that does not tell left from right."
    patients = {case.patient for case in cases if case.measures is not None and case.measures.sides is not None}
    if len(patients) < FEWEST_PATIENTS:
        yield f"Left and right are compared among {FEWEST_PATIENTS} patients or more; here are {len(patients)}."


def _cases(count: int) -> str:
    return "1 case is" if count == 1 else f"{count} cases are"
