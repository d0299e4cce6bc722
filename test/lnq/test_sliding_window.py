import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnq.sliding_window import gaussian_weights, sliding_window, window_starts, windows

PATCH = (4, 6, 8)


def itself(patches: np.ndarray) -> np.ndarray:
    """Logits whose difference is the image."""
    return np.concatenate([np.zeros_like(patches), patches], axis=1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


shapes = st.tuples(*[st.integers(1, 20)] * 3)


@given(shape=shapes, step=st.sampled_from([0.25, 0.5, 0.9, 1.0]), mirror=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_network_that_copies_gives_the_image_back(shape, step, mirror):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    probability = sliding_window(image, itself, PATCH, step, mirror)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, sigmoid(image), atol=1e-5)


@given(size=st.integers(8, 200), step=st.sampled_from([0.25, 0.5, 1.0]))
def test_windows_cover_everything_in_even_steps(size, step):
    starts = np.array(window_starts(size, 8, step))
    assert starts[0] == 0
    assert starts[-1] + 8 == size
    gaps = np.diff(starts)
    assert (gaps <= 8 * step).all() or size == 8
    assert np.ptp(gaps) <= 1 if len(gaps) else size == 8


def test_windows_are_those_worked_out_by_hand():
    # 20 voxels, patch 8, half steps of 4: ceil(12 / 4) + 1 windows
    assert window_starts(20, 8, 0.5) == [0, 4, 8, 12]
    assert window_starts(21, 8, 0.5) == [0, 3, 6, 10, 13]
    assert window_starts(8, 8, 0.5) == [0]
    assert len(list(windows((20, 8, 21), (8, 8, 8)))) == 4 * 1 * 5


def test_gaussian_is_that_of_nnu_net():
    weights = gaussian_weights((16, 32, 8))
    assert weights.dtype == np.float32
    assert weights[8, 16, 4] == 1
    assert weights[8, 20, 4] == pytest.approx(np.exp(-0.5))  # one deviation of 32 / 8 beside the centre
    assert weights.min() > 1e-11


def test_a_region_skips_windows_and_changes_nothing_within():
    image = np.random.default_rng(0).normal(size=(12, 40, 40)).astype(np.float32)
    region = np.zeros(image.shape, bool)
    region[5:8, 10:14, 30:33] = True
    seen = []

    def blurred(patches: np.ndarray) -> np.ndarray:
        """A network whose result depends on where the window lies."""
        seen.append(patches.shape)
        return itself(patches + patches.mean())

    everywhere = sliding_window(image, blurred, PATCH)
    all_windows = len(seen)
    seen.clear()
    probability = sliding_window(image, blurred, PATCH, region=region)
    assert len(seen) < all_windows / 4
    np.testing.assert_array_equal(probability[region], everywhere[region])
    assert probability[:, 30:].max() == 0


def test_an_empty_region_runs_nothing():
    def never(patches: np.ndarray) -> np.ndarray:
        raise AssertionError

    probability = sliding_window(np.zeros((5, 9, 9), np.float32), never, PATCH, region=np.zeros((5, 9, 9), bool))
    assert not probability.any()


def test_a_small_image_is_padded_with_its_lowest_value():
    seen = []

    def look(patches: np.ndarray) -> np.ndarray:
        seen.append(patches[0, 0])
        return itself(patches)

    image = np.array([[[-2.0, 3.0]]], np.float32)
    probability = sliding_window(image, look, PATCH)
    assert probability.shape == (1, 1, 2)
    assert seen[0].shape == PATCH
    assert (seen[0] == -2).sum() == 4 * 6 * 8 - 1


def test_mirroring_averages_over_the_eight_flips():
    def ramp(patches: np.ndarray) -> np.ndarray:
        """Says how far to the left a voxel lies in its window, whatever the image."""
        return itself(np.broadcast_to(np.arange(8, dtype=np.float32), patches.shape))

    probability = sliding_window(np.zeros(PATCH, np.float32), ramp, PATCH, mirror=True)
    np.testing.assert_allclose(probability, sigmoid(3.5), rtol=1e-6)


def test_other_than_two_classes_are_refused():
    with pytest.raises(ValueError, match="2 classes, background and node, not 3"):
        sliding_window(np.zeros(PATCH, np.float32), lambda p: np.repeat(p, 3, axis=1), PATCH)
