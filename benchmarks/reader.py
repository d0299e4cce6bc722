"""A simulated reader: judges candidates against the complete truth, as a person with a slider would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lnq.image.itk import read_volume
from lnq.nodes.metrics import dice
from training.review.decisions import FORMAT, Decisions, Judgement, subject_of
from training.review.outlines import Outlined, as_proposed, grown_from_start
from training.review.verdicts import FoundMaps
from training.review.write import NUMBERS, PROBABILITY, read_found

_LEVELS = 255  # steps of the review page's slider
SLIDER = tuple(level / _LEVELS for level in (5, 13, 26, 51, 77, 102, 128, 153, 179, 204, 230, 242, 250))
LEAST_DICE = 0.5
"""A candidate is a node where some outline of it agrees so well with the true nodes that it touches. Where none does,
but it holds part of one, the reader is unsure: it is no background either."""
_TIME = "2026-01-01T00:00:00Z"  # a fixed one: the same judgements are the same file


def judge(folder: Path, truth: np.ndarray, chosen: Sequence[int]) -> Decisions:
    """Judge the chosen candidates in `folder`. `truth`: above 0 in all nodes, [Z, Y, X] on the CT's grid."""
    numbers, probability = read_volume(folder / NUMBERS), read_volume(folder / PROBABILITY)
    found = FoundMaps(numbers.array, probability, [tuple(start) for start in read_found(folder)["starts"]])
    judged = tuple(verdict_on(candidate, found, truth) for candidate in chosen)
    return Decisions(FORMAT, folder.name, subject_of(folder), "simulated", _TIME, judged, (), None, None)


def verdict_on(candidate: int, found: FoundMaps, truth: np.ndarray) -> Judgement:
    """The verdict on one candidate, with the threshold whose outline fits best."""
    start = found.starts_mm[candidate - 1]
    outlines: dict[float | None, Outlined] = {None: as_proposed(found.numbers, candidate)}
    outlines |= {t: grown_from_start(found.probability, start, t) for t in SLIDER}
    fits = {t: _fit(outlined, truth) for t, outlined in outlines.items()}
    best = max(fits, key=lambda t: fits[t])
    if fits[best] >= LEAST_DICE:
        return Judgement(candidate, "node", best, _TIME)
    on_node = _fit(outlines[None], truth) > 0
    return Judgement(candidate, "unsure" if on_node else "no node", None, _TIME)


def _fit(outlined: Outlined, truth: np.ndarray) -> float:
    """Dice of an outline with the true nodes that it touches."""
    if outlined.empty:
        return 0.0
    marked = np.zeros(truth.shape, bool)
    marked[outlined.box] = outlined.mask
    touched = np.unique(truth[marked])
    touched = touched[touched > 0]
    return dice(marked, np.isin(truth, touched)) if touched.size else 0.0
