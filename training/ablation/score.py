"""Score a checkpoint on prepared cases with complete truth, on the prepared grid: cheap enough for every cell.

The main branch predicts in a sliding window with the model's step. Post-processing follows METHOD section 7, without
the mediastinal region. Dice and ASSD are computed at the prepared spacing, not at the CT's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from lnq.image.volume import Volume, make_affine
from lnq.inference.network import SegmentationNet
from lnq.inference.sliding_window import Predict, sliding_window
from lnq.inference.spec import ModelSpec, PostProcessing, Triple
from lnq.nodes.metrics import assd_mm, dice
from lnq.nodes.postprocess import drop_at_border, drop_small
from training.bundle.spec import bundle_spec
from training.config import Precision
from training.data.dataset import normalise_patch
from training.data.prepared import PreparedCase, case_folders
from training.engine.checkpoint import load_checkpoint
from training.engine.machine import choose_precision
from training.method.network import main_branch

HALF = 0.5
THRESHOLDS = tuple(float(expit(logit)) for logit in np.arange(-9.0, 9.25, 0.5))
"""From 0.0001 to 0.9999, evenly in the logit, because losses shift calibration by orders of magnitude. Holds 0.5."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """One case with its prediction. Arrays are [Z, Y, X] on the prepared grid."""

    probability: np.ndarray  # float32
    hu: np.ndarray  # int16
    truth: np.ndarray  # uint8, 1 = node
    spacing_mm: Triple


@dataclass(frozen=True)
class Scores:
    """Scores at one threshold, one entry per case."""

    threshold: float
    dice: tuple[float, ...]
    raw_dice: tuple[float, ...]  # before post-processing
    assd_mm: tuple[float, ...]  # NaN where the mask is empty
    marked: tuple[float, ...]  # fraction of the voxels, before post-processing


def predict_folder(checkpoint_path: Path, data: Path) -> tuple[list[Predicted], PostProcessing]:
    """The checkpoint's predictions for all prepared cases of a folder, and its rules of post-processing."""
    checkpoint = load_checkpoint(checkpoint_path)
    spec = bundle_spec(checkpoint)
    network = SegmentationNet(spec.network)
    network.load_state_dict(main_branch(checkpoint["average"] or checkpoint["model"]))
    predict = predictor(network, checkpoint["config"]["precision"])
    cases = [PreparedCase(folder) for folder in case_folders(data)]
    return [predict_case(case, predict, spec) for case in cases], spec.postprocess


def predictor(network: SegmentationNet, precision: Precision) -> Predict:
    """The network as a function of patches, with training's precision; "auto" is resolved for this machine."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.to(device).eval()
    chosen = choose_precision() if precision == "auto" else precision
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(chosen)

    def predict(patches: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast(device, mixed, enabled=mixed is not None):
            logits: Tensor = network(torch.from_numpy(patches).to(device))
        values: np.ndarray = logits.float().cpu().numpy()
        return values

    return predict


def predict_case(case: PreparedCase, predict: Predict, spec: ModelSpec) -> Predicted:
    """Predict one case."""
    hu, truth = case.whole("image"), case.whole("label")
    image = normalise_patch(hu, case, spec.normalisation)
    probability = sliding_window(image, predict, spec.patch, spec.window_step, spec.mirror)
    return Predicted(probability, hu, truth, case.info.spacing_mm)


def mask_of(case: Predicted, threshold: float, rules: PostProcessing) -> np.ndarray:
    """The mask, bool [Z, Y, X]: thresholded and post-processed as in `lnq.nodes.postprocess`, without the region."""
    mask = drop_at_border(case.probability >= threshold, case.spacing_mm, rules.border_mm)
    mask &= (case.hu >= rules.hu_range[0]) & (case.hu <= rules.hu_range[1])
    return drop_small(mask, float(np.prod(case.spacing_mm)), rules.min_volume_mm3)


def best_threshold(cases: Sequence[Predicted], rules: PostProcessing) -> float:
    """The one of THRESHOLDS with the best mean Dice. Among equally good ones, the nearest to 0.5 is chosen."""
    mean = {t: np.mean([dice(mask_of(case, t, rules), case.truth) for case in cases]) for t in THRESHOLDS}
    return max(THRESHOLDS, key=lambda t: (mean[t], -abs(t - HALF)))


def score_at(cases: Sequence[Predicted], threshold: float, rules: PostProcessing) -> Scores:
    """Score all cases at a threshold."""
    rows = [_score_case(case, threshold, rules) for case in cases]
    return Scores(threshold, *(tuple(column) for column in zip(*rows, strict=True)))


def _score_case(case: Predicted, threshold: float, rules: PostProcessing) -> tuple[float, float, float, float]:
    raw, mask = case.probability >= threshold, mask_of(case, threshold, rules)
    affine = make_affine(case.spacing_mm)
    return (
        float(dice(mask, case.truth)),
        float(dice(raw, case.truth)),
        assd_mm(Volume(mask, affine), Volume(case.truth > 0, affine)),
        np.count_nonzero(raw) / raw.size,
    )
