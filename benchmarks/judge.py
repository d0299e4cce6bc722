"""Judges a contender's result by ours and by the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.contenders import OURS, PROBABILITY
from benchmarks.peers.launch import ContenderRun
from lnq.archive.open import read_ct
from lnq.image.itk import read_volume, write_volume
from lnq.image.names import stem
from lnq.image.resample import resample_array_to
from lnq.image.volume import Volume
from lnq.inference.spec import ModelSpec
from lnq.nodes.metrics import dice
from lnq.pipeline import Prepared, Reached, by_rules, prepare


@dataclass(frozen=True)
class Verdict:
    """What a result is worth. NaN stands where there is nothing to compare with."""

    difference: float = math.nan  # mean absolute difference of the probability from ours, where our windows lie
    dice_own: float = math.nan  # Dice of the contender's own mask
    dice_rules: float = math.nan  # Dice of its probability with the bundle's thresholds and post-processing


@dataclass(frozen=True, eq=False)
class JudgedCase:
    """A CT that contenders segment, and what their results are judged by."""

    case: str
    ct: Path
    crop: Path  # the lungs' box, which the peers get
    ready: Prepared
    truth: Volume | None  # on the CT's grid

    @staticmethod
    def load(ct: Path, truth: Path | None, spec: ModelSpec, folder: Path) -> JudgedCase:
        """Read a CT and write its lungs' box into `folder`, uncompressed. HU below -1024 become -1024.

        Raises ValueError where `truth` has another number of voxels.
        """
        volume = read_ct(ct)
        ready = prepare(volume, spec.spacing_mm, spec.crop)
        crop = folder / f"{stem(ct)}.nii"
        write_volume(ready.cropped, crop)
        nodes = None if truth is None else read_volume(truth)
        if nodes is not None and nodes.shape != volume.shape:
            raise ValueError(f"{truth} is not on the grid of {ct}: {nodes.shape} and {volume.shape} voxels")
        return JudgedCase(stem(ct), ct, crop, ready, nodes)

    def judge(self, run: ContenderRun, output: Path, ours: np.ndarray | None, spec: ModelSpec) -> Verdict:
        """Judge what a run left in `output`. `ours`: our probability, float32 on the box's grid."""
        if run.mask is None:
            return Verdict()
        probability = read_volume(output / PROBABILITY).array
        if run.contender != OURS:  # a peer gives what the network says; ours is calibrated
            probability = spec.calibration.apply(probability)
        difference = math.nan
        if ours is not None and run.contender != OURS and (ours > 0).any():
            difference = float(np.abs(probability - ours)[ours > 0].mean())
        if self.truth is None:
            return Verdict(difference)
        own, true = read_volume(output / run.mask).array > 0, self.truth.array > 0
        if run.contender != OURS:  # a peer's mask lies on the box's grid
            own = self.ready.orientation.undo(self.ready.crop.undo(own))
        hu = self.ready.cropped.with_array(
            resample_array_to(self.ready.image.array, self.ready.image, self.ready.cropped)
        )
        whole = (slice(0, hu.shape[0]), slice(0, hu.shape[1]), slice(0, hu.shape[2]))
        reached = Reached(spec.threshold, whole, probability >= spec.threshold, probability, hu)
        ruled = self.ready.paste(by_rules(reached, self.ready.crop, spec))
        return Verdict(difference, dice(own, true), dice(ruled.array, true))
