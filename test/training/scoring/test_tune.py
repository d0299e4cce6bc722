"""Thresholds chosen from components alone, against the metrics of whole masks."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lnq.image.components import CONNECTED_26
from lnq.nodes.metrics import dice, false_components, node_detection
from lnq.nodes.postprocess import drop_faint
from training.scoring import tune
from training.scoring.tune import Marked, choose, mark, try_cut, write_tried

SHAPE = (5, 8, 9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.9), st.floats(0.0, 0.99))
def test_what_follows_from_components_is_what_the_masks_metrics_say(seed: int, threshold: float, peak: float) -> None:
    rng = np.random.default_rng(seed)
    probabilities = ndimage.gaussian_filter(rng.random((2, *SHAPE)), (0, 1, 1, 1)) * 4 - 1.5
    probabilities = np.clip(probabilities, 0, 1).astype(np.float32)
    truths = [ndimage.label(ndimage.gaussian_filter(rng.random(SHAPE), 1) > 0.53)[0] for _ in probabilities]
    cases, dices, found, nodes, true, components = [], [], 0, 0, 0, 0
    for probability, truth in zip(probabilities, truths, strict=True):
        mask = probability >= threshold
        node_voxels = np.bincount(truth.ravel())[1:]
        cases.append(tune.count_overlaps(mask, probability, truth, node_voxels))
        kept = drop_faint(mask, probability, peak)
        dices.append(dice(kept, truth))
        results = node_detection(kept, truth, (1.0, 1.0, 1.0))
        found, nodes = found + sum(r.found for r in results), nodes + len(results)
        count = ndimage.label(kept, CONNECTED_26)[1]
        true, components = true + count - false_components(kept, truth), components + count
    tried = try_cut(cases, threshold, peak)
    assert tried.mean_dice == pytest.approx(np.mean(dices))
    assert tried.nodes_found == pytest.approx(found / nodes if nodes else 1.0)
    assert tried.false_components_per_case == pytest.approx((components - true) / 2)
    recall, precision = tried.nodes_found, true / components if components else 0.0
    assert tried.node_f1 == pytest.approx(2 * recall * precision / (recall + precision) if precision * recall else 0)


def marked(*components: tuple[float, int, int]) -> Marked:
    """A case with one node of 100 voxels; components of (peak, voxels outside, voxels in the node)."""
    peaks = np.array([c[0] for c in components])
    return Marked(np.array([100]), peaks, np.array([c[1:] for c in components]).reshape(-1, 2))


def test_threshold_is_chosen_by_dice_and_the_peak_by_f1() -> None:
    low = marked((0.96, 60, 90), (0.7, 10, 0))
    high = marked((0.96, 10, 80), (0.72, 3, 0), (0.91, 2, 0))
    best, tried = choose([[low, high]], (0.3, 0.6))
    assert (best.threshold, best.peak_threshold) == (0.6, 0.93)  # 0.91 and 0.72 go, the node stays
    assert best.mean_dice == pytest.approx(2 * 80 / (90 + 100))
    assert (best.node_f1, best.false_components_per_case) == (1.0, 0.0)
    assert [(t.threshold, t.peak_threshold) for t in tried[:3]] == [(0.3, 0.0), (0.6, 0.0), (0.6, 0.7)]
    assert tried[0].mean_dice == pytest.approx(2 * 90 / (160 + 100))


def test_peak_stays_0_where_it_drops_nothing_wrong() -> None:
    best, _ = choose([[marked((0.99, 10, 80))]], (0.5,))
    assert best.peak_threshold == 0.0


def test_half_a_point_of_f1_is_given_for_fewer_false_components() -> None:
    cases = [marked((0.99, 10, 80)) for _ in range(299)]
    faint = marked((0.65, 10, 80), (0.65, 3, 0), (0.65, 3, 0))  # a found node, and two false ones
    best, _ = choose([[case] for case in [*cases, faint]], (0.5,))
    assert (best.peak_threshold, best.false_components_per_case) == (0.7, 0.0)
    assert best.node_f1 == pytest.approx(2 * 299 / (300 + 299))
    many = [marked((0.65, 10, 80))] * 20  # too many nodes would go
    assert choose([[case] for case in [*cases, faint, *many]], (0.5,))[0].peak_threshold == 0.0


def test_nodes_beyond_the_crop_count_as_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.zeros((4, 4, 4), np.int16)
    truth[0, 0, :2], truth[2, 2, 2] = 7, 3
    box = np.s_[1:, 1:, 1:]
    probability = np.where(truth[box] > 0, 0.9, 0.1).astype(np.float32)
    ready = SimpleNamespace(orientation=SimpleNamespace(apply=lambda a: a), crop=SimpleNamespace(box=box))
    inferred = SimpleNamespace(ready=ready, probability=probability, hu=None)
    spec = SimpleNamespace(postprocess=None, crop=SimpleNamespace(use_region=True))
    monkeypatch.setattr(tune, "postprocess", lambda mask, *_: mask)
    volume = SimpleNamespace(array=truth, shape=truth.shape)
    (case,) = mark(cast("tune.Inferred", inferred), cast("tune.Volume", volume), cast("tune.ModelSpec", spec), (0.5,))
    assert case.node_voxels.tolist() == [1, 2]
    assert case.overlaps.tolist() == [[0, 1, 0]]
    assert try_cut([case], 0.5, 0.0).mean_dice == pytest.approx(2 / 4)


def test_table_holds_a_row_per_try(tmp_path: Path) -> None:
    _, tried = choose([[marked((0.99, 10, 80))]], (0.99,))
    write_tried(tmp_path / "thresholds.csv", tried)
    with open(tmp_path / "thresholds.csv") as file:
        rows = [(row["threshold"], row["peak_threshold"], row["node_f1"]) for row in csv.DictReader(file)]
    assert rows == [("0.99", "0.0", "1.0"), ("0.99", "0.995", "0.0")]
