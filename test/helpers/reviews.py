"""What tests of the review share: candidates in a folder, and decisions on them."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.nodes.measure import Landmarks, measure_nodes
from lnq.plain import to_plain
from training.review.candidates import Candidate, Found, starts_of
from training.review.decisions import FORMAT, AddedNode, Decisions, Judgement, Rejection, digest_of_ct, subject_of
from training.review.page import review_page
from training.review.verdicts import FoundMaps
from training.review.write import list_of, write_found

TIME = "2026-01-02T03:04:05Z"
WEIGHTS = "ab" * 32


def bump(grid: Volume, place_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """A probability that falls evenly from 1 at a place (L, P, S) to 0 at twice the radius."""
    index = np.indices(grid.shape).reshape(3, -1)
    position = grid.affine[:3, :3] @ index + grid.affine[:3, 3:]
    distance = np.linalg.norm(position - np.array(place_mm)[:, None], axis=0).reshape(grid.shape)
    return np.clip(1.0 - distance / (2 * radius_mm), 0.0, 1.0).astype(np.float32)


def write_candidates(
    folder: Path,
    ct: Volume,
    places_mm: list[tuple[float, float, float]],
    radius_mm: float = 8.0,
    state: Volume | None = None,
    missed_mm: tuple[tuple[float, float, float], ...] = (),
    faint_mm: tuple[tuple[float, float, float], ...] = (),
) -> Found:
    """Candidates that are balls of `radius_mm`, numbered in the order of the places, in a probability of bumps.

    With `state`, the label so far, they get their page too. At the missed places the probability is highest at 0.4. So
    it is at the faint ones, but these are candidates of level 0.2, after the others.
    """
    bumps = [bump(ct, place, radius_mm) for place in places_mm]
    faint = [0.4 * bump(ct, place, radius_mm) for place in faint_mm]
    probability = np.max([*bumps, *faint, *(0.4 * bump(ct, place, radius_mm) for place in missed_mm)], axis=0)
    marked = (probability >= 0.5) | np.any([one >= 0.2 for one in faint], axis=0)
    nodes, numbers = measure_nodes(ct.with_array(marked.astype(np.uint8)), ct.array, probability, Landmarks(0.0, None))
    renumber = np.zeros(len(nodes) + 1, np.int16)
    candidates = []
    for number, place in enumerate([*places_mm, *faint_mm], start=1):
        node = min(nodes, key=lambda node, place=place: math.dist(node.centroid_lps_mm, place))
        renumber[node.number] = number
        level = 0.5 if number <= len(places_mm) else 0.2
        node = dataclasses.replace(node, number=number)
        candidates.append(Candidate(node, node.mean_probability, 1.0, 0.5, level))
    box = tuple(slice(0, size) for size in reorient_to_lps(ct)[0].shape)
    ranked, map_ = ct.with_array(renumber[numbers]), ct.with_array(probability)
    found = Found(candidates, ranked, map_, box, starts_of(ranked, map_), [])
    made_from = {"weights": [WEIGHTS], "models": ["m"], "threshold": 0.5, "flips": 1}
    content = list_of(folder.name, found, made_from, digest_of_ct(ct))
    page = review_page(content, ct, state, found) if state is not None else None
    write_found(folder, content, found, page)
    return found


def maps_of(found: Found) -> FoundMaps:
    return FoundMaps(found.numbers.array, found.probability, found.starts_mm)


def decide(
    folder: Path,
    verdicts: dict[int, str],
    reader: str = "A. Reader",
    thresholds: dict[int, float] | None = None,
    added: tuple[AddedNode, ...] = (),
    rejected: str = "",
    complete_from_mm: float | None = None,
) -> Decisions:
    """Decisions on the candidates in a folder."""
    judged = tuple(Judgement(n, verdict, (thresholds or {}).get(n), TIME) for n, verdict in verdicts.items())
    rejection = Rejection(rejected, TIME) if rejected else None
    return Decisions(FORMAT, folder.name, subject_of(folder), reader, TIME, judged, added, rejection, complete_from_mm)


def write_decisions(path: Path, decisions: Decisions, **changes: Any) -> Path:
    """A decisions file, maybe with other entries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_plain(decisions) | changes))
    return path


def apply_command(raw: Path, *others: str, output: str = "new") -> list[str]:
    """Arguments of training.apply_review, whose folders lie beside `raw`."""
    base = raw.parent
    return [
        str(raw), "--candidates", str(base / "found"), "--decisions", str(base / "said"), "-o", str(base / output),
        *others,
    ]  # fmt: skip


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV table."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
