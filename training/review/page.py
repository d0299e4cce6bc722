"""Pages on which a reader judges candidates: one per CT with a viewer, and a list of all. They work from the disk."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from lnq.files import write_bytes
from lnq.image.components import label as label_components
from lnq.image.resample import resample_array_to
from lnq.image.volume import Volume
from lnq.plain import to_plain
from lnq.report.niivue import niivue_code
from lnq.report.pages import VIEWER_SCRIPTS, WINDOWS_HU
from lnq.report.render import render
from lnq.report.scan import Scan, make_scan, nifti
from lnq.report.tables import Column
from training.data.sources.states import NODE
from training.review.candidates import Found
from training.review.decisions import subject_of_list
from training.review.write import REVIEW_HTML

MOST_BYTES = 15_000_000
_ASSETS = Path(__file__).with_name("assets")
_SCRIPTS = (*VIEWER_SCRIPTS, "growth.js", "decisions.js", "outlines.js", "candidate_list.js", "review.js")
_MOST_VOXELS = 12_000_000  # 0.7 byte each
_FIRST_ANNOTATED = 10_000  # numbers of annotated nodes, above those of candidates
_PROBABILITY_LEVELS = 255
_KINDS = (
    ("open", "not judged"),
    ("node", "node"),
    ("no-node", "no node"),
    ("unsure", "unsure"),
    ("annotated", "annotated before"),
)
_REASONS = (
    "breathing or movement",
    "metal or beam artefacts",
    "too noisy",
    "the mediastinum is cut off",
    "not a chest CT",
    "image and label do not fit",
)
_SHORTCUTS = (
    (("y",), "node"),
    (("n",), "no node; of an added node: delete it"),
    (("u",), "unsure"),
    (("z",), "undo"),
    (("Backspace",), "take this verdict back"),
    (("→", "←"), "next, previous"),
    (("↑", "↓"), "slices, when the images have the focus"),
    (("+", "-"), "outline tighter or wider; a ball larger or smaller. Shift and the wheel do the same"),
    (("0",), "outline as proposed"),
    (("a",), "add missed nodes by a click, or by Enter at the cross"),
    (("Delete",), "delete the chosen added node"),
    (("s",), "save"),
)
_COLUMNS = (
    Column("case", "Case", numeric=False, large_first=False),
    Column("candidates", "Candidates"),
    Column("worth", "Worth", "bits"),
    Column("progress", "Progress", numeric=False),
)


def review_page(content: Mapping[str, Any], ct: Volume, state: Volume, found: Found) -> bytes:
    """The page of a CT in HU. `content` is the list of its candidates as it is written beside the page.

    `state`: the label so far, of three states, on the CT's grid. The CT is cut to the region where nodes can be, and
    made coarser to keep the page within `MOST_BYTES`. Raises ImportError without jinja2.
    """
    numbers = found.numbers.array.astype(np.int16)
    annotated, count = label_components(state.array == NODE)
    above = np.minimum(annotated + _FIRST_ANNOTATED, np.iinfo(np.int16).max)  # a label of noise has more pieces
    labels = ct.with_array(np.where(annotated > 0, above, numbers).astype(np.int16))
    most_voxels, page = _MOST_VOXELS, b""
    while not page or (len(page) > MOST_BYTES and most_voxels > 1):
        scan = make_scan(ct, labels, found.region_box, most_voxels)
        page = render(
            "review.html",
            ("page.css", "case.css", "review.css"),
            _SCRIPTS,
            _context(content, scan, found.probability, count) | {"warnings": _warnings(ct)},
            _ASSETS,
        )
        most_voxels = int(0.8 * most_voxels)
    return page


def _context(content: Mapping[str, Any], scan: Scan, probability: Volume, annotated: int) -> dict[str, Any]:
    candidates = content["candidates"]
    marks = scan.marks()
    about = scan.facts() | {
        "case": content["case"],
        "subject": to_plain(subject_of_list(content)),
        "candidates": candidates,
        "starts": content["starts"],
        "marks": [mark for mark in marks if mark["number"] < _FIRST_ANNOTATED],
        "annotated": [mark for mark in marks if mark["number"] > _FIRST_ANNOTATED],
        "first_annotated": _FIRST_ANNOTATED,
        "nodes": [],
    }
    z, y, x = (f"{mm:.3g}" for mm in scan.levels.spacing_mm)
    coarser = ", coarser than the CT; labels are made on the CT's own grid" if scan.is_coarser else ""
    nodes = f"{annotated} annotated {'node' if annotated == 1 else 'nodes'}"
    return {
        "title": content["case"],
        "summary": f"{len(candidates)} candidates, {nodes}",
        "index": REVIEW_HTML,
        "windows": WINDOWS_HU,
        "kinds": _KINDS,
        "reasons": _REASONS,
        "shortcuts": _SHORTCUTS,
        "niivue": niivue_code(),
        "about": about,
        "levels": _text(scan.packed_levels()),
        "labels": _text(scan.packed_labels()),
        "probability": _text(gzip.compress(nifti(_levels_of(probability, scan.levels)), 6, mtime=0)),
        "scan_note": f"The part of the CT where nodes can be, voxels of {x} × {y} × {z} mm{coarser}.",
    }


def _warnings(ct: Volume) -> list[str]:
    """What a reader must know of the CT."""
    unknown = () if ct.oriented else ("The file does not tell left from right: R and L may be swapped.",)
    return [*ct.warnings, *unknown]


def _levels_of(probability: Volume, grid: Volume) -> Volume:
    """255 times the probability, rounded down, on the page's grid: level k is reached where k / 255 is."""
    on_grid = resample_array_to(probability.array, probability, grid)
    return grid.with_array(np.floor(np.clip(on_grid, 0.0, 1.0) * _PROBABILITY_LEVELS + 1e-4).astype(np.uint8))


def _text(packed: bytes) -> str:
    return base64.b64encode(packed).decode()


def write_worklist(output: Path, lists: Sequence[Mapping[str, Any]]) -> None:
    """Write `output/review.html`: all cases that have a page. `lists`: their lists of candidates.

    Raises ImportError without jinja2.
    """
    cases = [
        {
            "name": content["case"],
            "address": f"{quote(content['case'])}/{REVIEW_HTML}",
            "candidates": len(content["candidates"]),
            "worth": sum(row["worth"] for row in content["candidates"]),
            "digest": subject_of_list(content).candidates,
        }
        for content in lists
        if (output / content["case"] / REVIEW_HTML).is_file()
    ]
    cases.sort(key=lambda case: -case["worth"])
    count = sum(case["candidates"] for case in cases)
    context = {
        "title": "Candidates to be judged",
        "summary": f"{len(cases)} CTs with {count} candidates, those whose judgements teach most (worth) first. "
        "Progress is what this browser keeps. Training data, no findings.",
        "columns": _COLUMNS,
        "cases": cases,
    }
    page = render("worklist.html", ("page.css", "worklist.css"), ("sort.js", "worklist.js"), context, _ASSETS)
    write_bytes(output / REVIEW_HTML, page)
