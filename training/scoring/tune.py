"""Choose a model's threshold, and the threshold of a node's peak probability, on cases with complete truth.

For each case and threshold only facts about the components are kept: the size of each, its peak probability, and how
many voxels of each node it covers. All scores follow from these, for any peak threshold.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.files import replace_atomically
from lnq.image.components import components
from lnq.image.volume import Volume
from lnq.inference.spec import ModelSpec
from lnq.nodes.metrics import FOUND_FRACTION
from lnq.nodes.postprocess import peaks, postprocess
from lnq.pipeline import Inferred
from training.scoring.scores import CaseResult, summary

THRESHOLDS = (*np.round(np.arange(0.05, 0.96, 0.05), 2).tolist(), 0.97, 0.98, 0.99, 0.995)
PEAK_THRESHOLDS = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995)
COLUMNS = ("threshold", "peak_threshold", "mean_dice", "node_f1", "nodes_found", "false_components_per_case")


@dataclass(frozen=True, eq=False)
class Marked:
    """What a model marks in one case at one threshold."""

    node_voxels: np.ndarray  # int [N], voxels of each true node, including those outside the crop
    peaks: np.ndarray  # float [C], highest probability of each component
    overlaps: np.ndarray  # int [C, 1 + N], voxels of each component outside all nodes, then in each node


@dataclass(frozen=True)
class Tried:
    """How good a pair of thresholds is, over all cases."""

    threshold: float
    peak_threshold: float
    mean_dice: float
    node_f1: float  # see `training.scoring.scores.node_f1`
    nodes_found: float  # fraction of all nodes
    false_components_per_case: float


def mark(inferred: Inferred, instances: Volume, spec: ModelSpec, thresholds: Sequence[float]) -> list[Marked]:
    """What is marked at each threshold. `instances` holds each node's label on the CT's own grid."""
    ready = inferred.ready
    _, compact = np.unique(instances.array, return_inverse=True)
    if instances.array.min() > 0:
        compact = compact + 1
    truth = ready.orientation.apply(compact.reshape(instances.shape))[ready.crop.box]
    node_voxels = np.bincount(compact.ravel())[1:]
    found = []
    for threshold in thresholds:
        nodes = postprocess(
            inferred.probability >= threshold, inferred.hu, ready.crop, spec.postprocess, spec.crop.use_region
        )
        found.append(count_overlaps(nodes, inferred.probability, truth, node_voxels))
    return found


def count_overlaps(nodes: np.ndarray, probability: np.ndarray, truth: np.ndarray, node_voxels: np.ndarray) -> Marked:
    """Count the components of `nodes` and their overlaps with `truth` (labels from 1), both [Z, Y, X]."""
    at = nodes > 0
    numbers, count = components(at)
    columns = len(node_voxels) + 1
    pairs = (numbers - 1) * columns + truth[at]
    overlaps = np.bincount(pairs, minlength=count * columns).reshape(count, columns)
    return Marked(node_voxels, peaks(numbers, count, probability[at]), overlaps)


WITHIN_F1 = 0.005
CHOSEN_BY = "best mean Dice, then the fewest false components within half a point of the best F1 of nodes"


def try_cut(cases: Sequence[Marked], threshold: float, peak_threshold: float) -> Tried:
    """Score a peak threshold on what is marked at a threshold."""
    dices, found, nodes, true, components = [], 0, 0, 0, 0
    for case in cases:
        kept = case.overlaps[case.peaks >= peak_threshold]
        total = kept.sum() + case.node_voxels.sum()
        dices.append(2 * kept[:, 1:].sum() / total if total else 1.0)
        found += int(np.count_nonzero(kept[:, 1:].sum(axis=0) >= FOUND_FRACTION * case.node_voxels))
        nodes += len(case.node_voxels)
        true += int(np.count_nonzero(kept[:, 1:].any(axis=1)))
        components += len(kept)
    recall, precision = found / nodes if nodes else 1.0, true / components if components else 0.0
    f1 = 2 * recall * precision / (recall + precision) if recall * precision else 0.0
    if not (nodes or components):
        f1 = 1.0
    return Tried(threshold, peak_threshold, float(np.mean(dices)), f1, recall, float(components - true) / len(cases))


def choose(marked: Sequence[Sequence[Marked]], thresholds: Sequence[float]) -> tuple[Tried, list[Tried]]:
    """Choose the threshold of best mean Dice, and at it a peak threshold. Returns all tried ones too.

    Of the peak thresholds whose F1 is at most `WITHIN_F1` below the best, the one with fewest false components is
    chosen: other CTs hold more that looks like nodes than the cases here. `marked` holds the result of `mark` for each
    case. Among equally good thresholds the lowest is chosen.
    """
    by_threshold = [(threshold, [case[index] for case in marked]) for index, threshold in enumerate(thresholds)]
    tried = [try_cut(cases, threshold, 0.0) for threshold, cases in by_threshold]
    best = int(np.argmax([t.mean_dice for t in tried]))
    threshold, cases = by_threshold[best]
    peaks = [try_cut(cases, threshold, peak) for peak in PEAK_THRESHOLDS if peak == 0 or peak > threshold]
    least = max(one.node_f1 for one in peaks) - WITHIN_F1
    good = [one for one in peaks if one.node_f1 >= least]
    return min(good, key=lambda one: one.false_components_per_case), [*tried, *peaks[1:]]


def write_tried(path: Path, tried: Sequence[Tried]) -> None:
    """Write a CSV table of all tried thresholds."""
    with replace_atomically(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([getattr(t, name) for name in COLUMNS] for t in tried)


def store_cut(bundle: Path, chosen: ModelSpec, results: Sequence[CaseResult]) -> None:
    """Write the chosen thresholds, and the mirroring they are for, to the bundle's spec.json, with cases and scores.

    Raises BundleError where the bundle cannot be read.
    """
    spec = ModelSpec.load(bundle)
    found = {name: summary(results)[name] for name in ("mean_dice", "node_f1")}
    provenance = spec.provenance | {"threshold": {"by": CHOSEN_BY, "cases": [r.case for r in results], **found}}
    dataclasses.replace(
        spec,
        threshold=chosen.threshold,
        peak_threshold=chosen.peak_threshold,
        mirror=chosen.mirror,
        provenance=provenance,
    ).save(bundle)
