from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lnq.anatomy.crop import Crop
from lnq.image.volume import Volume, make_affine
from lnq.inference.network import SegmentationNet
from lnq.inference.sliding_window import sliding_window
from lnq.inference.spec import PostProcessing
from lnq.nodes.postprocess import postprocess
from training.ablation.cell import AblationCell, Bench, train_cell
from training.ablation.score import THRESHOLDS, Predicted, best_threshold, mask_of, predict_folder, score_at
from training.bundle.spec import bundle_spec
from training.data.dataset import normalise_patch
from training.data.prepared import PreparedCase
from training.engine.checkpoint import load_checkpoint
from training.method.network import main_branch

SHAPE = (10, 20, 20)
RULES = PostProcessing(border_mm=(4.0, 2.0, 2.0), hu_range=(-50.0, 200.0), min_volume_mm3=50.0)


@pytest.fixture
def known() -> Predicted:
    """Sure of a node of 3 x 6 x 6 voxels, half sure of a shell around it, and of a block at the crop's border."""
    probability = np.full(SHAPE, 0.01, np.float32)
    probability[2:7, 5:15, 5:15] = 0.6
    probability[3:6, 7:13, 7:13] = 0.8
    probability[:4, :2, :2] = 0.9
    truth = np.zeros(SHAPE, np.uint8)
    truth[3:6, 7:13, 7:13] = 1
    return Predicted(probability, np.full(SHAPE, 60, np.int16), truth, (4.0, 2.0, 2.0))


def test_thresholds_are_even_in_the_logit_and_hold_one_half() -> None:
    assert 0.5 in THRESHOLDS and len(THRESHOLDS) == 37
    assert THRESHOLDS[0] == pytest.approx(1 / (1 + math.exp(9))) and THRESHOLDS[-1] == pytest.approx(1 - THRESHOLDS[0])


def test_mask_is_what_inference_keeps_without_the_region(known: Predicted) -> None:
    hu = known.hu.copy()
    hu[4, 9, 9] = 300  # outside the range of nodes
    case = dataclasses.replace(known, hu=hu)
    crop = Crop((slice(None),) * 3, np.zeros(SHAPE, bool), 2, SHAPE)
    for threshold in (0.005, 0.5, 0.7, 0.85):
        volume = Volume(hu, make_affine(known.spacing_mm))
        wanted = postprocess(known.probability >= threshold, volume, crop, RULES, use_region=False)
        assert np.array_equal(mask_of(case, threshold, RULES), wanted)
    assert mask_of(case, 0.7, RULES).sum() == 3 * 6 * 6 - 1


def test_best_threshold_is_the_one_of_best_dice_nearest_to_one_half(known: Predicted) -> None:
    assert best_threshold([known], RULES) == pytest.approx(1 / (1 + math.exp(-0.5)))  # 0.622 and 0.731 do as well
    nothing = dataclasses.replace(known, truth=np.zeros(SHAPE, np.uint8), probability=known.probability * 0)
    assert best_threshold([nothing], RULES) == 0.5


def test_scores_at_a_threshold(known: Predicted) -> None:
    empty = dataclasses.replace(known, probability=known.probability / 2)
    scores = score_at([known, empty], 0.5, RULES)
    shell, node, block = 5 * 10 * 10, 3 * 6 * 6, 4 * 2 * 2
    assert scores.dice == (pytest.approx(2 * node / (shell + node)), 0.0)
    assert scores.raw_dice == (pytest.approx(2 * node / (shell + block + node)), 0.0)
    assert scores.marked == (pytest.approx((shell + block) / 4000), 0.0)
    assert math.isnan(scores.assd_mm[1]) and 3.0 < scores.assd_mm[0] < 6.0
    exact = score_at([known], 0.7, RULES)
    assert exact.dice == (1.0,) and exact.assd_mm == (0.0,)


def test_checkpoints_average_predicts_whole_cases(bench: Callable[[Path], Bench], tmp_path: Path) -> None:
    place = bench(tmp_path)
    assert train_cell(AblationCell("f", 0), place)
    path = place.output(AblationCell("f", 0)) / "finetune.pt"
    predicted, rules = predict_folder(path, place.data.test)
    checkpoint = load_checkpoint(path)
    spec = bundle_spec(checkpoint)
    network = SegmentationNet(spec.network).eval()
    network.load_state_dict(main_branch(checkpoint["average"]))

    def predict(patches: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(patches)).numpy()

    case = PreparedCase(place.data.test / "case-00")
    image = normalise_patch(case.whole("image"), case, spec.normalisation)
    wanted = sliding_window(image, predict, spec.patch, spec.window_step)
    assert np.abs(predicted[0].probability - wanted).max() < 1e-5
    assert rules == spec.postprocess and len(predicted) == 2
