"""Write pages that show the results of a run: one for all cases, and one per case with a viewer and its nodes.

Pages work from the disk, without a server or a network. A case's page is a single file. That of all cases links to
other pages and pictures. All text is treated as hostile: Jinja escapes it, and a policy in the page lets only the
page's own scripts run.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lnq.files import write_bytes
from lnq.image.volume import Box, Volume
from lnq.nodes.measure import SHORT_AXES_MM
from lnq.report.niivue import niivue_code
from lnq.report.render import render
from lnq.report.scan import HU_PER_LEVEL, Scan, make_scan
from lnq.report.tables import (
    CaseLine,
    all_versions,
    case_lines,
    duration,
    figures,
    node_lines,
    number,
    size_of,
    sizes,
    summary,
    versions_text,
)
from lnq.results.case_record import DONE, FAILED, PAGE, PREVIEW, REPORT, SEGMENTS, SKIPPED, CaseRecord
from lnq.results.node_table import NODES_CSV, NodeRow
from lnq.results.preview import WINDOW_HU

MOST_BYTES = 5_000_000  # largest size of a case's page

_MOST_VOXELS, _FEWEST_VOXELS = 4_000_000, 100_000  # of the CT in a page: noise takes 0.5 byte per voxel, 0.7 as text
_MOST_ROWS = 2000  # in a case's table: a mask with more components marks no real nodes
VIEWER_SCRIPTS = ("scan.js", "marks.js", "canvas_viewer.js", "niivue_viewer.js", "controls.js")
"""What a page with a viewer needs before its own script."""
WINDOWS_HU = ((-160, 240), (-85, 165), (-35, 115))  # width 400, 250 and 150 around 40


def write_case_page(
    path: Path,
    record: CaseRecord,
    rows: Sequence[NodeRow],
    volume: Volume,
    labels: Volume,
    box: Box | None = None,
    title: str | None = None,
) -> None:
    """Write a case's page to `path` in the case's folder.

    The CT in the page is made coarser, or left out, to keep the page within `MOST_BYTES`. `record` is the case's line
    of the manifest, `rows` are its table. `volume` is the CT in HU; `labels` (integers) hold each node's number on the
    same grid. `box`, in LPS axes, is the shown part of the CT, by default around the nodes. The page links the mask,
    table and preview that the folder already holds. Raises ImportError without jinja2, ValueError where the labels'
    shape is not the volume's, and OSError where the page cannot be written.
    """
    context = _case_context(path.parent, record, rows) | {"title": record.case if title is None else title}
    most_voxels, page = _MOST_VOXELS, b""
    while not page or len(page) > MOST_BYTES:
        is_shown = most_voxels >= _FEWEST_VOXELS
        scan = _scan_context(make_scan(volume, labels, box, most_voxels), rows) if is_shown else _NO_SCAN
        page = render("case.html", ("page.css", "case.css"), ("sort.js", *VIEWER_SCRIPTS, "case.js"), context | scan)
        if not is_shown:
            break
        most_voxels = int(0.8 * most_voxels)
    write_bytes(path, page)


def write_index(
    output: Path,
    records: Sequence[CaseRecord],
    rows: Sequence[NodeRow],
    title: str = "Mediastinal lymph nodes: a run's results",
) -> None:
    """Write `output/report.html`: the outcome of every case, with the failed ones on top.

    `records` are the manifest's lines, `rows` those of the table of all nodes. The page links only pages and pictures
    that the cases' folders already hold. Raises ImportError without jinja2, OSError where it cannot be written.
    """
    cases, columns = case_lines(records, rows)
    for case in cases:
        if case.status == DONE:  # a failed case's folder holds the results of an earlier run
            case.page = _address(output, case.name, PAGE)
            case.picture = _address(output, case.name, PREVIEW)
    with_status = {status: [case for case in cases if case.status == status] for status in (FAILED, SKIPPED)}
    titles = {FAILED: "Failed", SKIPPED: "Skipped"}
    context = {
        "title": title,
        "figures": figures(cases),
        "troubles": [
            {"status": status, "title": f"{titles[status]} ({len(found)})", "cases": found}
            for status, found in with_status.items()
            if found
        ],
        "cases": cases,
        "columns": columns,
        "kinds": _kinds(cases),
        "has_pictures": any(case.picture for case in cases),
        "versions": all_versions(records),
    }
    write_bytes(output / PAGE, render("index.html", ("page.css", "index.css"), ("sort.js", "index.js"), context))


def _case_context(folder: Path, record: CaseRecord, rows: Sequence[NodeRow]) -> dict[str, Any]:
    """The template's values for a case's page, except those of the viewer."""
    lines, columns = node_lines(rows[:_MOST_ROWS])
    return {
        "summary": summary(record, rows),
        "warnings": record.warnings,
        "columns": columns,
        "rows": lines,
        "rows_left_out": max(0, len(rows) - _MOST_ROWS),
        "sizes": sizes(),
        "windows": WINDOWS_HU,
        "versions": versions_text(record),
        "seconds": duration(record.seconds),
        "links": _links(folder, record),
        "picture": os.path.isfile(folder / PREVIEW),
        "niivue": niivue_code(),
    }


def _scan_context(scan: Scan, rows: Sequence[NodeRow]) -> dict[str, Any]:
    """The template's values for the viewer, and a note about what it shows."""
    size = {row.number: size_of(row) for row in rows}
    marks = [{**mark, "size": size.get(mark["number"], "small")} for mark in scan.marks()]
    about = scan.facts() | {"nodes": marks}
    low, high = WINDOW_HU
    note = f"A part of the CT, in steps of {HU_PER_LEVEL:g} HU from {number(low)} to {number(high)} HU"
    z, y, x = (f"{mm:.3g}" for mm in scan.levels.spacing_mm)
    voxels = f"{x} × {y} × {z} mm"
    if scan.is_coarser:
        z, y, x = (f"{mm:.3g}" for mm in scan.ct_spacing_mm)
        note += f", made coarser: voxels of {voxels} instead of {x} × {y} × {z} mm; nodes were measured in the CT."
    else:
        note += f", voxels of {voxels} as in the CT."
    return {
        "about": about,
        "levels": base64.b64encode(scan.packed_levels()).decode(),
        "labels": base64.b64encode(scan.packed_labels()).decode(),
        "scan_note": note,
    }


_NO_SCAN = {
    "about": None,
    "levels": "",
    "labels": "",
    "scan_note": "The CT is too large for this page: open it and the mask in a viewer of your own.",
}


def _links(folder: Path, record: CaseRecord) -> list[tuple[str, str]]:
    """Name and address of the case's other files."""
    names = [Path(record.mask or "").name, SEGMENTS, REPORT, NODES_CSV, PREVIEW]
    return [(name, quote(os.fsencode(name))) for name in names if name and os.path.isfile(folder / name)]


def _address(output: Path, case: str, name: str) -> str | None:
    """The address of a file in a case's folder; None where there is none, or the case's name leads elsewhere."""
    is_inside = case not in ("", ".", "..") and "/" not in case
    return f"{quote(os.fsencode(case))}/{name}" if is_inside and os.path.isfile(output / case / name) else None


def _kinds(cases: Sequence[CaseLine]) -> list[tuple[str, str, int]]:
    """The kinds of cases that the table can be filtered by: key, text and number of cases."""
    texts = {
        FAILED: "failed",
        SKIPPED: "skipped",
        DONE: "done",
        "warnings": "with warnings",
        "medium": f"with a node ≥ {SHORT_AXES_MM[0]:g} mm",
        "large": f"with a node ≥ {SHORT_AXES_MM[1]:g} mm",
        "none": "done, without nodes",
    }
    counts = {kind: sum(kind in case.kinds.split() for case in cases) for kind in texts}
    return [("all", "all", len(cases)), *((kind, text, counts[kind]) for kind, text in texts.items())]
