from __future__ import annotations

import numpy as np
import pytest

from training.data.augmentation.corrupt import (
    Corruption,
    apply_corruption,
    draw_corruption,
    map_intensity,
    paint,
    shuffle_windows,
)

SHAPE = (16, 40, 40)
NO_BOXES = np.zeros((0, 2, 3), dtype=int)


@pytest.fixture
def patch() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def boxes(*corners: tuple[tuple[int, int, int], tuple[int, int, int]]) -> np.ndarray:
    return np.array(corners)


def test_shuffling_permutes_within_windows_only(patch: np.ndarray) -> None:
    window = boxes(((2, 3, 4), (4, 6, 9)))
    out = shuffle_windows(patch, window, np.random.default_rng(1))
    inside = np.zeros(SHAPE, bool)
    inside[2:4, 3:6, 4:9] = True
    assert np.array_equal(out[~inside], patch[~inside])
    assert not np.array_equal(out[inside], patch[inside])
    assert np.array_equal(np.sort(out[inside]), np.sort(patch[inside]))


@pytest.mark.parametrize("decreasing", [False, True])
def test_intensity_map_is_monotone_between_the_percentiles(patch: np.ndarray, decreasing: bool) -> None:
    control = np.array([(0, 0), (0.9, 0.1), (0.2, 0.6), (1, 1)])
    out = map_intensity(patch, control, decreasing)
    steps = np.diff(out.ravel()[np.argsort(patch.ravel())])
    assert (steps <= 0).all() if decreasing else (steps >= 0).all()
    low, high = np.percentile(patch, (0.1, 99.9))
    assert out.min() == pytest.approx(low, abs=1e-5) and out.max() == pytest.approx(high, abs=1e-5)


def test_straight_curve_changes_nothing_within_the_percentiles(patch: np.ndarray) -> None:
    thirds = np.array([(0, 0), (1 / 3, 1 / 3), (2 / 3, 2 / 3), (1, 1)])
    low, high = np.percentile(patch, (0.1, 99.9))
    assert np.allclose(map_intensity(patch, thirds, decreasing=False), patch.clip(low, high), atol=1e-5)


def test_constant_patch_stays(patch: np.ndarray) -> None:
    control = np.array([(0, 0), (0.9, 0.1), (0.2, 0.6), (1, 1)])
    assert (map_intensity(np.full(SHAPE, -1.5, np.float32), control, True) == -1.5).all()


def test_in_painting_changes_the_boxes_alone(patch: np.ndarray) -> None:
    out = paint(patch, boxes(((0, 0, 0), (2, 5, 5)), ((8, 8, 8), (10, 13, 13))), "in", np.random.default_rng(0))
    changed = out != patch
    assert changed.sum() == 2 * 50 and changed[:2, :5, :5].all() and changed[8:10, 8:13, 8:13].all()
    assert (out[changed] >= 0).all() and (out[changed] < 1).all()


def test_out_painting_keeps_the_boxes_union_alone(patch: np.ndarray) -> None:
    out = paint(patch, boxes(((0, 0, 0), (2, 5, 5)), ((1, 2, 2), (3, 7, 7))), "out", np.random.default_rng(0))
    kept = np.zeros(SHAPE, bool)
    kept[:2, :5, :5] = kept[1:3, 2:7, 2:7] = True
    assert np.array_equal(out[kept], patch[kept])
    assert (out[~kept] >= 0).all() and (out[~kept] < 1).all()


def test_flips_apply_to_both_copies(patch: np.ndarray) -> None:
    corrupted, clean = apply_corruption(patch, Corruption((2, 0), NO_BOXES, None, False, None, NO_BOXES, 0))
    assert np.array_equal(clean, patch[::-1, :, ::-1]) and np.array_equal(corrupted, clean)


def test_drawn_parameters_obey_the_method() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_corruption(SHAPE, rng) for _ in range(600)]
    rate = {
        "flip": (np.mean([len(c.flips) > 0 for c in drawn]), 0.4),
        "second flip": (np.mean([len(c.flips) > 1 for c in drawn]), 0.16),
        "shuffle": (np.mean([len(c.shuffle) > 0 for c in drawn]), 0.5),
        "map": (np.mean([c.curve is not None for c in drawn]), 0.9),
        "decreasing": (np.mean([c.decreasing for c in drawn]), 0.5),
        "in": (np.mean([c.paint == "in" for c in drawn]), 0.18),
        "out": (np.mean([c.paint == "out" for c in drawn]), 0.72),
    }
    for name, (got, wanted) in rate.items():
        assert got == pytest.approx(wanted, abs=0.06), name
    assert max(len(c.flips) for c in drawn) <= 3
    windows = round(8000 * 16 * 40 * 40 / (64 * 128 * 224))
    for corruption in drawn:
        assert len(corruption.shuffle) in (0, windows)
        assert len(corruption.boxes) == {"in": 5, "out": 201, None: 0}[corruption.paint]
        for group in (corruption.shuffle, corruption.boxes):
            assert (group[:, 0] >= 0).all() and (group[:, 1] <= SHAPE).all()
    sizes = np.concatenate([c.boxes[:, 1] - c.boxes[:, 0] for c in drawn if c.paint == "out"])
    assert sizes.min(axis=0).tolist() == [2, 5, 5] and sizes.max(axis=0).tolist() == [4, 10, 10]
    sizes = np.concatenate([c.boxes[:, 1] - c.boxes[:, 0] for c in drawn if c.paint == "in"])
    assert sizes.min(axis=0).tolist() == [2, 5, 5] and sizes.max(axis=0).tolist() == [2, 6, 6]
    sizes = np.concatenate([c.shuffle[:, 1] - c.shuffle[:, 0] for c in drawn])
    assert sizes.min(axis=0).tolist() == [1, 1, 1] and sizes.max(axis=0).tolist() == [1, 2, 2]


def test_applying_twice_gives_the_same(patch: np.ndarray) -> None:
    corruption = draw_corruption(SHAPE, np.random.default_rng(3))
    first, second = apply_corruption(patch, corruption), apply_corruption(patch, corruption)
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
