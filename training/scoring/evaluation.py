"""Score all cases, or try thresholds on them. A case that cannot be scored does not stop the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from lnq.inference.backends import Model
from lnq.pipeline import infer, mask_of
from training.scoring.calibrate import VoxelCounts, count_voxels
from training.scoring.plots import WorstCases
from training.scoring.scores import CaseResult, score
from training.scoring.truths import Truth, read_instances, read_prediction, refuse_other_grid
from training.scoring.tune import THRESHOLDS, Marked, Tried, choose, mark

Masks = Callable[[Truth, Volume], tuple[Volume, float]]
"""Function of a case and its truth with a label per node; it gives the mask and the seconds that it took."""


@dataclass
class Scored:
    """Results of all cases, and the reason for each case that is left out (`failed`)."""

    worst: WorstCases
    results: list[CaseResult] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def masks_of_model(model: Model) -> Masks:
    """Masks that the model makes of the CTs."""

    def masks(truth: Truth, instances: Volume) -> tuple[Volume, float]:
        volume = read_ct(truth, instances)
        inferred = infer(volume, model)
        return mask_of(inferred, model.spec), sum(inferred.seconds.values())

    return masks


def read_ct(truth: Truth, instances: Volume) -> Volume:
    """Read the case's CT. Raises ValueError where its grid is not the truth's."""
    assert truth.ct is not None  # find_truths has checked it
    volume = read_volume(truth.ct)
    refuse_other_grid(truth.ct.name, volume, truth, instances)
    return volume


def masks_of_folder(folder: Path) -> Masks:
    """Masks that lie in a folder, with NaN for their seconds. Raises ValueError where there is no such folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")

    def masks(truth: Truth, instances: Volume) -> tuple[Volume, float]:
        mask = read_prediction(folder, truth)
        refuse_other_grid("The prediction", mask, truth, instances)
        return mask, math.nan

    return masks


def score_all(truths: Sequence[Truth], masks: Masks, worst: int, console: Console) -> Scored:
    """Score all cases, without replacing missing ASSDs. Keeps the `worst` cases of lowest Dice for pictures."""
    scored = Scored(WorstCases(worst))

    def work(truth: Truth, instances: Volume) -> None:
        mask, seconds = masks(truth, instances)
        result = score(truth.case, mask, instances, seconds)
        scored.results.append(result)
        scored.worst.add(truth, result, np.packbits(mask.array > 0))

    scored.failed = _each(truths, work, "Scoring", console)
    return scored


def tune_thresholds(
    model: Model, truths: Sequence[Truth], console: Console
) -> tuple[Tried, list[Tried], dict[str, str]]:
    """The chosen thresholds, all that were tried, and why cases are left out.

    Where all cases are left out, nothing is tried, and the first result holds NaN.
    """
    marked: list[list[Marked]] = []

    def work(truth: Truth, instances: Volume) -> None:
        inferred = infer(read_ct(truth, instances), model)
        marked.append(mark(inferred, instances, model.spec, THRESHOLDS))

    failed = _each(truths, work, "Tuning", console)
    if not marked:
        return Tried(0.5, 0.0, math.nan, math.nan, math.nan, math.nan), [], failed
    return *choose(marked, THRESHOLDS), failed


def count_voxels_of_all(
    model: Model, truths: Sequence[Truth], console: Console
) -> tuple[VoxelCounts | None, dict[str, str]]:
    """Counts over all cases by which a calibration is fitted, and why cases are left out. None where all are."""
    found: list[VoxelCounts] = []

    def work(truth: Truth, instances: Volume) -> None:
        found.append(count_voxels(infer(read_ct(truth, instances), model), instances))

    failed = _each(truths, work, "Calibrating", console)
    return (sum(found[1:], start=found[0]) if found else None), failed


def _each(
    truths: Sequence[Truth], work: Callable[[Truth, Volume], None], title: str, console: Console
) -> dict[str, str]:
    """Call `work` on each case and its truth; returns the reason for each case that failed."""
    failed: dict[str, str] = {}
    for truth in track(truths, title, console=console):
        try:
            work(truth, read_instances(truth.path))
        except Exception as error:
            failed[truth.case] = str(error) or type(error).__name__
    return failed
