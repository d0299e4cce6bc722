"""Decisions without a reader: what networks mark surely and alike becomes node, for a second round of training.

Filtering pseudo labels by agreement is what challenge entries did (METHOD section 9, mining). Nobody has looked at
them: the reader's name says so, in every record of where a label comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.version import __version__
from training.review.decisions import FORMAT, Decisions, Judgement, subject_of
from training.review.write import read_found

MINED = "mined"  # folder of these decisions, beside the candidates
MINED_BY = "mined by lnq"  # begins the name of the reader that is none
_TIME = "1970-01-01T00:00:00Z"  # the same candidates and rules give the same file


@dataclass(frozen=True)
class Mining:
    """Which candidates count as nodes."""

    # A candidate's highest mean probability. By default what half of the annotated nodes reach, for networks trained on
    # partial labels answer on scales of their own.
    score: float | None = None
    agreement: float = 1.0  # the part of the looks that mark at least half of it
    short_axis_mm: float = 5.0

    @property
    def reader(self) -> str:
        """The name under which these decisions stand."""
        rules = f"score {self.score or 0:g}, agreement {self.agreement:g}, {self.short_axis_mm:g} mm"
        return f"{MINED_BY} {__version__}, seen by nobody ({rules} and more)"

    def accepts(self, candidate: dict[str, float]) -> bool:
        """Whether a line of the list of candidates counts as a node."""
        return all(
            candidate[name] >= least
            for name, least in (
                ("score", self.score or 0.0), ("agreement", self.agreement), ("short_axis_mm", self.short_axis_mm),
            )
        )  # fmt: skip


SURE_AND_ALIKE = Mining()


def with_score(rules: Mining, annotated: Sequence[float]) -> Mining:
    """The rules with a score: their own, or the median of the highest mean probabilities in `annotated` nodes.

    Raises ValueError where neither is there.
    """
    if rules.score is not None:
        return rules
    if not annotated:
        raise ValueError("No node is annotated that would tell how sure is sure enough: give --mining.score")
    return dataclasses.replace(rules, score=float(np.median(annotated)))


def mine_labels(folder: Path, rules: Mining) -> Decisions:
    """The decisions on a case's candidates, from the folder that `training.propose` wrote, by rules `with_score`.

    What is not accepted stays unknown. Raises ValueError where the folder holds no list of candidates.
    """
    subject = subject_of(folder)
    candidates = read_found(folder)["candidates"]
    judged = tuple(
        Judgement(number, "node", None, _TIME)
        for number, candidate in enumerate(candidates, start=1)
        if rules.accepts(candidate)
    )
    return Decisions(FORMAT, folder.name, subject, rules.reader, _TIME, judged, (), None, None)
