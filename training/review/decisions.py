"""A reader's decisions on the candidates of one CT, as the review page saves them.

A file names the CT, the weights and the list of candidates that it is about, so that it cannot be applied to others.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lnq.image.volume import Volume
from lnq.plain import check_types, from_plain
from training.review.write import read_found

FORMAT = 1
ENDING = ".decisions.json"
_NAMES = "*.decisions*.json"  # a browser that saves a name again adds a number to it
Verdict = Literal["node", "no node", "unsure"]
RADIUS_MM = (1.0, 30.0)  # of a ball around a node that nothing outlines


@dataclass(frozen=True)
class Judgement:
    """What a reader says of a candidate. `threshold` is that of the outline; None leaves it as proposed."""

    candidate: int
    verdict: str  # one of Verdict
    threshold: float | None
    time: str  # ISO 8601


@dataclass(frozen=True)
class AddedNode:
    """A node that a reader added: grown in the probability from a point at a threshold, or a ball around it."""

    lps_mm: tuple[float, float, float]
    threshold: float | None
    radius_mm: float | None
    time: str


@dataclass(frozen=True)
class Rejection:
    """Why a whole CT is of no use."""

    reason: str
    time: str


@dataclass(frozen=True)
class ReviewSubject:
    """What decisions are about, as hashes (SHA-256 in hex)."""

    ct: str  # of the voxels and their geometry
    weights: tuple[str, ...]
    candidates: str  # of the list of candidates and all it depends on


@dataclass(frozen=True)
class Decisions:
    """The content of a decisions file."""

    format: int
    case: str
    subject: ReviewSubject
    reader: str
    saved: str  # ISO 8601
    judged: tuple[Judgement, ...]
    added: tuple[AddedNode, ...]
    rejected: Rejection | None
    complete_from_mm: float | None  # the reader states that all nodes of at least that short axis are marked


def digest_of_ct(ct: Volume) -> str:
    """Hash of a CT's HU and geometry. Geometry counts to 0.001 mm."""
    digest = hashlib.sha256(repr((ct.shape, ct.affine.round(3).tolist())).encode())
    digest.update(np.ascontiguousarray(np.round(ct.array), "<i2").data)
    return digest.hexdigest()


def subject_of(folder: Path) -> ReviewSubject:
    """What the candidates in a folder are about. Raises ValueError where it holds none."""
    found = read_found(folder)
    if not found:
        raise ValueError(f"{folder} holds no list of candidates: run training.propose first")
    return subject_of_list(found)


def subject_of_list(content: Mapping[str, Any]) -> ReviewSubject:
    """What a list of candidates is about."""
    listed = json.dumps([content[name] for name in ("case", "ct", "made_from", "candidates", "starts")], sort_keys=True)
    digest = hashlib.sha256(listed.encode()).hexdigest()
    return ReviewSubject(content["ct"], tuple(content["made_from"]["weights"]), digest)


def read_decisions(path: Path) -> Decisions:
    """Read a decisions file. Raises ValueError where it is damaged or of another format."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"{path} is no decisions file, or it is damaged") from None
    if version != FORMAT:
        raise ValueError(f"{path} has format {version!r}, this program reads format {FORMAT}")
    try:
        decisions = from_plain(Decisions, content)
        check_types(decisions)
        problem = _problem(decisions)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if problem:
        raise ValueError(f"{path} is damaged: {problem}")
    return decisions


def _problem(decisions: Decisions) -> str:
    """What is wrong with the values of a decisions file, or ""."""
    if not decisions.reader.strip():
        return "it names no reader"
    if not decisions.reader.isprintable():
        return f"its reader's name {decisions.reader!r} cannot be written"
    every: list[Judgement | AddedNode] = [*decisions.judged, *decisions.added]
    times = [decisions.saved, *(one.time for one in every)]
    if decisions.rejected is not None:
        times.append(decisions.rejected.time)
        if not decisions.rejected.reason.strip():
            return "the CT is rejected without a reason"
    numbers = [one.candidate for one in decisions.judged]
    if len(set(numbers)) < len(numbers):
        return "a candidate is judged twice"
    for time in times:
        try:
            datetime.datetime.fromisoformat(time)
        except ValueError:
            return f"{time!r} is no time"
    size = decisions.complete_from_mm
    if size is not None and not 0 < size < math.inf:
        return f"nodes of at least {size:g} mm make no sense"
    return next(filter(None, map(_problem_of, every)), "")


def _problem_of(one: Judgement | AddedNode) -> str:
    if isinstance(one, Judgement):
        if one.verdict not in get_args(Verdict):
            return f"the verdict {one.verdict!r} is none of {', '.join(get_args(Verdict))}"
    else:
        if not all(map(math.isfinite, one.lps_mm)):
            return "a point is not finite"
        if (one.threshold is None) == (one.radius_mm is None):
            return "an added node has not just one of threshold and radius"
        low, high = RADIUS_MM
        if one.radius_mm is not None and not low <= one.radius_mm <= high:
            return f"a radius must be {low:g} to {high:g} mm, not {one.radius_mm:g}"
    if one.threshold is not None and not 0 < one.threshold <= 1:
        return f"a threshold must lie between 0 and 1, not {one.threshold:g}"
    return ""


def refuse_others(decisions: Decisions, path: Path, folder: Path) -> None:
    """Raise ValueError where decisions are not about the candidates in `folder`."""
    subject, said = subject_of(folder), decisions.subject
    if said.ct != subject.ct:
        raise ValueError(f"{path} judges another CT than that of {folder}")
    if said.weights != subject.weights:
        raise ValueError(f"{path} judges what other weights proposed than those of {folder}")
    if said.candidates != subject.candidates:
        raise ValueError(f"{path} judges another list of candidates than that of {folder}")
    count = len(read_found(folder)["candidates"])
    beyond = [one.candidate for one in decisions.judged if not 1 <= one.candidate <= count]
    if beyond:
        raise ValueError(f"{path} is damaged: it judges candidate {beyond[0]} of {count}")


def decision_files(given: Sequence[Path]) -> list[Path]:
    """Decisions files among files and folders, in the order of their paths. Raises ValueError where there is none."""
    files: set[Path] = set()
    for path in given:
        if not path.exists():
            raise ValueError(f"{path} does not exist")
        files |= set(path.rglob(_NAMES)) if path.is_dir() else {path}
    if not files:
        raise ValueError(f"No file named *{ENDING} in {', '.join(map(str, given))}")
    return sorted(files)
