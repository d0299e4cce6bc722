"""What becomes of a CT's candidates when one or several readers judged them.

Each candidate goes by the majority of those who are sure. Where there is none it stays unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lnq.image.volume import Volume
from training.data.sources.states import BACKGROUND, NODE, UNKNOWN
from training.review.decisions import AddedNode, Decisions
from training.review.outlines import Outlined, Point, as_proposed, ball, grown_from_point, grown_from_start


@dataclass(frozen=True)
class Vote:
    """What the readers say of a candidate or of a node that one of them added, and what becomes of it."""

    what: str  # "candidate 3", or "added 1 by" its reader
    candidate: int | None  # its number; None for an added node
    by_reader: dict[str, str]
    outcome: str  # node, no node, or unknown

    @property
    def agreed(self) -> bool:
        """Whether all readers who say something say the same."""
        return len(set(self.by_reader.values())) <= 1


@dataclass(frozen=True)
class Outcome:
    """What readers make of a whole CT."""

    votes: tuple[Vote, ...]
    rejected: str  # why the CT is of no use, or ""
    complete_from_mm: float | None  # all readers state that all nodes of at least that short axis are marked


@dataclass(frozen=True, eq=False)
class FoundMaps:
    """The candidates of a CT on its grid: their numbers [Z, Y, X], the probability, and where each is most probable."""

    numbers: np.ndarray
    probability: Volume
    starts_mm: Sequence[Point]


def tally(decisions: Sequence[Decisions], count: int) -> Outcome:
    """Count the votes on `count` candidates. `decisions` are those of one CT, one per reader."""
    votes = []
    for number in range(1, count + 1):
        said = {d.reader: j.verdict for d in decisions for j in d.judged if j.candidate == number}
        if said:
            votes.append(Vote(f"candidate {number}", number, said, _majority(list(said.values()))))
    for d in decisions:
        added = (f"added {i} by {d.reader}" for i, _ in enumerate(d.added, start=1))
        votes += [Vote(what, None, {d.reader: "node"}, "node") for what in added]
    reasons = [f"{d.rejected.reason} ({d.reader})" for d in decisions if d.rejected is not None]
    sizes = [d.complete_from_mm for d in decisions]
    complete = max(filter(None, sizes)) if sizes and all(sizes) else None
    return Outcome(tuple(votes), "; ".join(reasons) if 2 * len(reasons) >= max(1, len(decisions)) else "", complete)


def _majority(verdicts: Sequence[str]) -> str:
    yes, no = verdicts.count("node"), verdicts.count("no node")
    return "node" if yes > no else "no node" if no > yes else "unknown"


def three_states(
    before: np.ndarray, decisions: Sequence[Decisions], outcome: Outcome, found: FoundMaps, full_from_mm: float
) -> np.ndarray:
    """The new label, uint8 [Z, Y, X] of BACKGROUND, NODE and UNKNOWN, on the CT's grid.

    `before` is the label so far, of the same values: its nodes stay. Where the readers state that all nodes of at least
    `full_from_mm` or less are marked, all that is no node becomes background, but for candidates that nobody settled.
    Raises ValueError where a decision is about nothing in the CT.
    """
    state = before.copy()
    settled = {vote.candidate: vote.outcome for vote in outcome.votes}
    outcomes = [settled.get(number, "") for number in range(1, len(found.starts_mm) + 1)]
    if outcome.complete_from_mm is not None and outcome.complete_from_mm <= full_from_mm:
        state[state == UNKNOWN] = BACKGROUND
        outcomes = [to or "unknown" for to in outcomes]
    for wanted, value in (("unknown", UNKNOWN), ("no node", BACKGROUND)):
        for number in (n for n, to in enumerate(outcomes, start=1) if to == wanted):
            _paint(state, as_proposed(found.numbers, number), value)
    for number in (n for n, to in enumerate(outcomes, start=1) if to == "node"):
        for outlined in _outlines(number, decisions, found):
            _paint(state, outlined, NODE)
    for one in (added for d in decisions for added in d.added):
        _paint(state, outline_of(one, found.probability), NODE)
    state[before == NODE] = NODE
    return state


def outline_of(added: AddedNode, probability: Volume) -> Outlined:
    """The voxels of an added node. Raises ValueError where it lies outside the CT, or nothing grows there."""
    if added.radius_mm is not None:
        return ball(probability, added.lps_mm, added.radius_mm)
    assert added.threshold is not None
    outlined = grown_from_point(probability, added.lps_mm, added.threshold)
    if outlined.empty:
        place = ", ".join(f"{mm:g}" for mm in added.lps_mm)
        raise ValueError(f"Nothing grows at {place} mm (L, P, S) from a probability of {added.threshold:g}")
    return outlined


def _outlines(number: int, decisions: Sequence[Decisions], found: FoundMaps) -> list[Outlined]:
    """A candidate's outlines by those readers who call it a node."""
    thresholds = {j.threshold for d in decisions for j in d.judged if j.candidate == number and j.verdict == "node"}
    start = found.starts_mm[number - 1]
    return [
        as_proposed(found.numbers, number) if t is None else grown_from_start(found.probability, start, t)
        for t in sorted(thresholds, key=lambda t: -1.0 if t is None else t)
    ]


def _paint(state: np.ndarray, outlined: Outlined, value: int) -> None:
    state[outlined.box][outlined.mask] = value
