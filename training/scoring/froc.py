"""FROC: how many nodes are found where no more than so many wrong marks are made per CT, at whatever thresholds.

As in the free-response ROC of detection challenges, so of networks that answer on different scales the same is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lnq.nodes.metrics import FOUND_FRACTION
from training.scoring.tune import Marked


def found_at(cases: Sequence[Sequence[Marked]], false_per_case: float) -> list[bool]:
    """Which nodes are found, over all cases, at the thresholds that find most with at most so many false components.

    `cases` holds for each case what is marked at each threshold. A component that touches no node is false. With each
    threshold goes the lowest peak threshold that leaves no more false components than `false_per_case` times the cases.
    """
    levels = [_found([case[index] for case in cases], false_per_case) for index in range(len(cases[0]))]
    return max(levels, key=sum)


def _found(cases: Sequence[Marked], false_per_case: float) -> list[bool]:
    wrong = np.concatenate([case.peaks[~case.overlaps[:, 1:].any(axis=1)] for case in cases])
    allowed = int(false_per_case * len(cases) + 1e-9)
    above = np.sort(wrong)[::-1][allowed] if len(wrong) > allowed else -np.inf
    found: list[bool] = []
    for case in cases:
        covered = case.overlaps[case.peaks > above, 1:].sum(axis=0)
        found += (covered >= FOUND_FRACTION * case.node_voxels).tolist()
    return found
