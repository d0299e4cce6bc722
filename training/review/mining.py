"""Decisions without a reader: what networks mark surely and alike becomes node, for a second round of training.

Filtering pseudo labels by agreement is what challenge entries did (METHOD section 9, mining). Nobody has looked at
them: the reader's name says so, in every record of where a label comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnq.version import __version__
from training.review.decisions import FORMAT, Decisions, Judgement, subject_of
from training.review.write import read_found

MINED_BY = "mined by lnq"  # begins the name of the reader that is none
_TIME = "1970-01-01T00:00:00Z"  # the same candidates and rules give the same file


@dataclass(frozen=True)
class Mining:
    """Which candidates count as nodes."""

    score: float = 0.95  # a candidate's highest mean probability
    agreement: float = 1.0  # the part of the looks that mark at least half of it
    short_axis_mm: float = 5.0

    @property
    def reader(self) -> str:
        """The name under which these decisions stand."""
        rules = f"score {self.score:g}, agreement {self.agreement:g}, {self.short_axis_mm:g} mm"
        return f"{MINED_BY} {__version__}, seen by nobody ({rules} and more)"

    def accepts(self, candidate: dict[str, float]) -> bool:
        """Whether a line of the list of candidates counts as a node."""
        return all(
            candidate[name] >= least
            for name, least in (
                ("score", self.score), ("agreement", self.agreement), ("short_axis_mm", self.short_axis_mm),
            )
        )  # fmt: skip


SURE_AND_ALIKE = Mining()


def mine_labels(folder: Path, rules: Mining) -> Decisions:
    """The decisions on a case's candidates, from the folder that `training.propose` wrote.

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
