"""Score a bundle on raw cases with the truth that each has: all of its nodes, or some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.image.components import label as label_components
from lnq.image.volume import Volume
from lnq.inference.backends import Model
from lnq.pipeline import infer, mask_of
from lnq.plain import to_plain
from training.data.sources.find import check_label, read_pair
from training.data.sources.raw_case import RawCase
from training.data.sources.states import NODE, states_of
from training.scoring.once import once
from training.scoring.scores import score


@dataclass(frozen=True)
class HeldOutScore:
    """What a bundle finds in a held-out case. Of a case annotated in part, Dice says nothing and is None."""

    case: str
    full: bool
    dice: float | None
    nodes: int  # annotated ones
    found: int  # of these
    others: int  # components that touch no annotated node: all false where all nodes are annotated


def read_instances_of(case: RawCase) -> tuple[Volume, Volume]:
    """A raw case's CT in HU, and on its grid each annotated node's number. Raises ValueError where it cannot be read.

    Nodes that touch count as one.
    """
    ct, given = read_pair(case)
    check_label(given, case)
    return ct, ct.with_array(label_components(states_of(case, ct, given) == NODE)[0])


def score_raw(case: RawCase, model: Model) -> HeldOutScore:
    """Score a model on a raw case. Raises ValueError where the case cannot be read."""
    ct, instances = read_instances_of(case)
    result = score(case.name, mask_of(infer(ct, model), model.spec), instances, math.nan)
    found = sum(node.found for node in result.node_results)
    dice = result.dice if case.full else None
    return HeldOutScore(case.name, case.full, dice, result.nodes, found, result.false_components)


def score_once(case: RawCase, model: Model, folder: Path) -> HeldOutScore:
    """As `score_raw`, but a score that lies in `folder`, of the same files and model, is read."""
    made_from = {"case": case.files(), "model": to_plain(model.spec)}
    return once(folder / f"{case.name}.json", made_from, HeldOutScore, lambda: score_raw(case, model))


COLUMNS = ("held-out cases", "", "mean Dice %", "annotated nodes found", "other marks per case")


def table(before: Sequence[HeldOutScore], after: Sequence[HeldOutScore]) -> list[tuple[str, ...]]:
    """Rows of COLUMNS, before and after, for each kind of annotation that occurs. A case failed by one is left out."""
    both = {one.case for one in before} & {one.case for one in after}
    rows: list[tuple[str, ...]] = []
    for full, kind in ((True, "wholly annotated"), (False, "annotated in part")):
        for name, scores in (("before", before), ("after", after)):
            chosen = [one for one in scores if one.full == full and one.case in both]
            if chosen:
                rows.append((f"{len(chosen)} {kind}", name, *_means(chosen)))
    return rows


def _means(scores: Sequence[HeldOutScore]) -> tuple[str, str, str]:
    dices = [one.dice for one in scores if one.dice is not None]
    dice = f"{100 * np.mean(dices):.1f}" if dices else ""
    nodes, found = sum(one.nodes for one in scores), sum(one.found for one in scores)
    return dice, f"{found} of {nodes}", f"{np.mean([one.others for one in scores]):.1f}"
