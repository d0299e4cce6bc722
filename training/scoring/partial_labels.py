"""What partial labels tell of a network: how many annotated nodes it finds where it marks no more than so much.

A mark beside no annotation may be a node, so precision and Dice say nothing. How often a network marks does: of two
that mark as much, the better finds more of the nodes that were annotated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lnq.image.components import label as label_components
from lnq.nodes.metrics import FOUND_FRACTION
from lnq.nodes.postprocess import drop_small
from training.scoring.tune import PEAK_THRESHOLDS, THRESHOLDS, Marked, count_overlaps


@dataclass(frozen=True)
class Recall:
    """What a network finds of the annotated nodes at a pair of thresholds."""

    threshold: float
    peak_threshold: float
    nodes: int  # annotated ones
    found: int  # of them, those that are marked at least by FOUND_FRACTION
    covered: float  # the part of their voxels that is marked
    marks_per_case: float  # components, whether they touch an annotation or not

    @property
    def recall(self) -> float:
        """The fraction of the annotated nodes that is found."""
        return self.found / self.nodes

    @property
    def rank(self) -> tuple[float, float]:
        """What is compared: the recall, then the part of the voxels, since a few nodes give few different recalls."""
        return self.recall, self.covered


def mark_at_all(
    probability: np.ndarray,
    node: np.ndarray,
    voxel_mm3: float,
    min_volume_mm3: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Marked]:
    """What is marked in a case at each threshold, but for marks that are not larger than `min_volume_mm3`.

    `probability` of node and annotated `node` (above 0 there) are [Z, Y, X] on one grid.
    """
    truth, count = label_components(node > 0)
    node_voxels = np.bincount(truth.ravel(), minlength=count + 1)[1:]
    return [
        count_overlaps(drop_small(probability >= threshold, voxel_mm3, min_volume_mm3), probability, truth, node_voxels)
        for threshold in thresholds
    ]


def best_recall(
    cases: Sequence[Sequence[Marked]], marks_per_case: float, thresholds: Sequence[float] = THRESHOLDS
) -> Recall:
    """The best pair of thresholds at which no more than so many marks are made per case, over all cases.

    `cases` holds for each case what `mark_at_all` found. Among equally good pairs, that of fewest marks. A network that
    marks more at every pair finds nothing: it gets the strictest pair, with no node found. Some node must be annotated.
    """
    tried = [
        _recall([levels[index] for levels in cases], threshold, peak)
        for index, threshold in enumerate(thresholds)
        for peak in PEAK_THRESHOLDS
        if peak == 0 or peak > threshold
    ]
    allowed = [one for one in tried if one.marks_per_case <= marks_per_case]
    if not allowed:
        fewest = min(tried, key=lambda one: one.marks_per_case)
        return dataclasses.replace(fewest, found=0, covered=0.0)
    return max(allowed, key=lambda one: (*one.rank, -one.marks_per_case))


def only_annotated(case: Marked, annotated: Sequence[bool]) -> Marked:
    """What is marked in a case of which `annotated` [N] tells the annotated nodes: all else counts as no node."""
    chosen = np.asarray(annotated, bool)
    nodes = case.overlaps[:, 1:]
    elsewhere = case.overlaps[:, :1] + nodes[:, ~chosen].sum(axis=1, keepdims=True)
    return Marked(case.node_voxels[chosen], case.peaks, np.hstack([elsewhere, nodes[:, chosen]]))


def best_outline(cases: Sequence[Sequence[Marked]], thresholds: Sequence[float] = THRESHOLDS) -> float:
    """The threshold that outlines the annotated nodes best: by Dice of all of them and the marks that touch one.

    `cases` holds for each case what is marked at each threshold. Of equally good ones the highest is chosen, which
    marks least elsewhere: of marks that touch no annotation, partial labels tell nothing.
    """
    fits = []
    for index, threshold in enumerate(thresholds):
        touching = [levels[index].overlaps[levels[index].overlaps[:, 1:].any(axis=1)] for levels in cases]
        total = sum(int(own.sum()) for own in touching) + sum(int(levels[index].node_voxels.sum()) for levels in cases)
        inside = sum(int(own[:, 1:].sum()) for own in touching)
        fits.append((2 * inside / total if total else 0.0, threshold))
    return max(fits)[1]


def _recall(cases: Sequence[Marked], threshold: float, peak_threshold: float) -> Recall:
    nodes = found = voxels = covered = marks = 0
    for case in cases:
        kept = case.overlaps[case.peaks >= peak_threshold]
        in_nodes = kept[:, 1:].sum(axis=0)
        nodes += len(case.node_voxels)
        found += int(np.count_nonzero(in_nodes >= FOUND_FRACTION * case.node_voxels))
        voxels += int(case.node_voxels.sum())
        covered += int(in_nodes.sum())
        marks += len(kept)
    return Recall(threshold, peak_threshold, nodes, found, covered / voxels, marks / len(cases))
