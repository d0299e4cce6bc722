"""Fit and show what a bundle's probability means, on cases with complete truth (METHOD section 9)."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lnq.files import replace_atomically
from lnq.image.resample import reorient_to_lps, resample_label_to
from lnq.image.volume import Volume
from lnq.inference.calibration import LARGEST_LOGIT, Calibration, logit
from lnq.inference.spec import ModelSpec
from lnq.pipeline import Inferred

BINS = 640  # of the logit: 0.05 each
LEVELS = np.linspace(0, 1, 11)  # of the calibrated probability, in tables and pictures
_EDGES = np.linspace(-LARGEST_LOGIT, LARGEST_LOGIT, BINS + 1)
_CENTRES = (_EDGES[1:] + _EDGES[:-1]) / 2
_STEPS, _ENOUGH = 100, 1e-10


@dataclass(frozen=True, eq=False)
class VoxelCounts:
    """How many voxels have a logit in each of BINS, float64 [BINS]: of nodes, and of all else."""

    node: np.ndarray
    other: np.ndarray

    def __add__(self, more: VoxelCounts) -> VoxelCounts:
        return VoxelCounts(self.node + more.node, self.other + more.other)


def count_voxels(inferred: Inferred, instances: Volume) -> VoxelCounts:
    """Count the voxels of the grid that the network saw, where it looked. `instances`: the truth, above 0 in nodes."""
    label = instances.with_array((instances.array > 0).astype(np.uint8))
    truth = resample_label_to(reorient_to_lps(label)[0], inferred.ready.image).array > 0
    seen = inferred.output > 0
    logits = logit(inferred.calibration.apply(inferred.output))
    node, other = (np.histogram(logits[seen & which], _EDGES)[0].astype(float) for which in (truth, ~truth))
    return VoxelCounts(node, other)


def fit(counts: VoxelCounts) -> Calibration:
    """The calibration of greatest likelihood, by Newton's method.

    As in Platt 1999 nodes count as node with (N + 1) / (N + 2), all else with 1 / (M + 2), for N and M voxels. So
    voxels that are told apart without an error get a finite slope.

    Raises ValueError where no voxel is node or all are, and where nodes have no higher logits than all else.
    """
    nodes, others = counts.node.sum(), counts.other.sum()
    if not nodes or not others:
        raise ValueError("A calibration needs cases with nodes, and something beside them")
    voxels = counts.node + counts.other
    node = counts.node * (nodes + 1) / (nodes + 2) + counts.other / (others + 2)
    design = np.stack([_CENTRES, np.ones(BINS)])  # [2, BINS]
    weights = np.array([1.0, 0.0])  # slope, offset
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-(weights @ design)))
        gradient = design @ (node - voxels * p)
        curvature = (design * (voxels * p * (1 - p))) @ design.T
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        step *= min(1.0, 1.0 / max(np.abs(step).max(), 1e-300))  # no leap where the curve is flat
        weights = weights + step
        if np.abs(step).max() < _ENOUGH:
            break
    if not weights[0] > 0:
        raise ValueError("The bundle gives nodes no higher probability than all else: no calibration can mend that")
    return Calibration(float(weights[0]), float(weights[1]))


@dataclass(frozen=True)
class Level:
    """Voxels whose probability lies between two of LEVELS."""

    from_probability: float
    to_probability: float
    voxels: int
    mean_probability: float  # NaN where there is no voxel
    node_fraction: float  # how many of them are node


def reliability(counts: VoxelCounts, calibration: Calibration) -> list[Level]:
    """How often voxels are node, by their probability after a calibration."""
    p = 1.0 / (1.0 + np.exp(-(calibration.slope * _CENTRES + calibration.offset)))
    voxels = counts.node + counts.other
    level = np.clip(np.digitize(p, LEVELS) - 1, 0, len(LEVELS) - 2)
    rows = []
    for index, (low, high) in enumerate(pairwise(LEVELS)):
        here = level == index
        total = voxels[here].sum()
        mean = float((p * voxels)[here].sum() / total) if total else float("nan")
        fraction = float(counts.node[here].sum() / total) if total else float("nan")
        rows.append(Level(round(float(low), 2), round(float(high), 2), int(total), mean, fraction))
    return rows


def calibration_error(levels: Sequence[Level]) -> float:
    """Mean distance between probability and fraction of nodes, over the levels above the lowest that have voxels.

    The lowest level holds nearly all voxels, which every network gets right. Each other level counts alike.
    """
    gaps = [abs(one.mean_probability - one.node_fraction) for one in levels[1:] if one.voxels]
    return float(np.mean(gaps)) if gaps else float("nan")


def store_calibration(bundle: Path, found: Calibration, cases: Sequence[str], errors: tuple[float, float]) -> ModelSpec:
    """Write a calibration of a bundle's own probability to its spec.json, with its thresholds moved along.

    So its masks stay, but for rounding. `errors`: before and after. Raises BundleError where it cannot be read.
    """
    spec = ModelSpec.load(bundle)
    by = {"cases": list(cases), "error_before": errors[0], "error_after": errors[1]}
    spec = dataclasses.replace(
        spec,
        calibration=found.after(spec.calibration),
        threshold=found.at(spec.threshold),
        peak_threshold=found.at(spec.peak_threshold),
        provenance=spec.provenance | {"calibration": by},
    )
    spec.save(bundle)
    return spec


def write_reliability(path: Path, before: Sequence[Level], after: Sequence[Level]) -> None:
    """Write a CSV table of the levels, before and after."""
    with replace_atomically(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("when", *(field.name for field in dataclasses.fields(Level))))
        for when, levels in (("before", before), ("after", after)):
            writer.writerows((when, *dataclasses.astuple(one)) for one in levels)


def plot_reliability(before: Sequence[Level], after: Sequence[Level], path: Path) -> None:
    """Draw how often voxels are node over their probability, before and after, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes: Any = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="means what it says")
    for levels, name, colour in ((before, "before", "#d55e00"), (after, "after", "#0072b2")):
        points = [(one.mean_probability, one.node_fraction) for one in levels if one.voxels]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=name)
    axes.set(xlabel="probability", ylabel="fraction of voxels that are node", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    with replace_atomically(path) as part:
        figure.savefig(part, dpi=120, format="png")
