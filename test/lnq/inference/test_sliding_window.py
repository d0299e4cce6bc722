import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnq.inference.sliding_window import Window, gaussian_weights, sliding_window, window_starts, windows
from lnq.inference.spec import MIRRORINGS

PATCH = (4, 6, 8)


def itself(patches: np.ndarray) -> np.ndarray:
    """Logits whose difference is the image."""
    return np.concatenate([np.zeros_like(patches), patches], axis=1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


shapes = st.tuples(*[st.integers(1, 20)] * 3)


@given(shape=shapes, step=st.sampled_from([0.25, 0.5, 0.9, 1.0]), mirror=st.sampled_from(MIRRORINGS))
@settings(max_examples=25, deadline=None)
def test_a_network_that_copies_gives_the_image_back(shape, step, mirror):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    probability = sliding_window(image, itself, PATCH, step, mirror)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, sigmoid(image), atol=1e-5)


@given(size=st.integers(8, 200), step=st.sampled_from([0.25, 0.5, 1.0]))
def test_windows_cover_everything_in_even_steps(size, step):
    starts = np.array(window_starts(np.ones(size, bool), 8, step))
    assert starts[0] == 0
    assert starts[-1] + 8 == size
    gaps = np.diff(starts)
    assert (gaps <= 8 * step).all() or size == 8
    assert np.ptp(gaps) <= 1 if len(gaps) else size == 8


def test_windows_are_those_worked_out_by_hand():
    # 20 voxels, patch 8, half steps of 4: ceil(12 / 4) + 1 windows
    assert window_starts(np.ones(20, bool), 8, 0.5) == [0, 4, 8, 12]
    assert window_starts(np.ones(21, bool), 8, 0.5) == [0, 3, 6, 10, 13]
    assert window_starts(np.ones(8, bool), 8, 0.5) == [0]
    assert len(list(windows(np.ones((20, 8, 21), bool), (8, 8, 8)))) == 4 * 1 * 5


@pytest.mark.parametrize(
    ("first", "last", "starts"),
    [
        (5, 14, [5, 7]),  # ten places: two windows of eight, two apart
        (9, 10, [6]),  # one window, its middle on theirs
        (1, 2, [0]),  # not before the first
        (18, 18, [12]),  # not beyond the last
    ],
)
def test_windows_reach_no_farther_than_what_is_wanted(first, last, starts):
    wanted = np.zeros(20, bool)
    wanted[[first, last]] = True
    assert window_starts(wanted, 8, 0.5) == starts


regions = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 19), st.integers(0, 24)), max_size=6)


@given(voxels=regions, step=st.sampled_from([0.5, 0.75, 1.0]))
def test_windows_cover_all_of_a_region_and_each_some_of_it(voxels, step):
    region = np.zeros((12, 20, 25), bool)
    for voxel in voxels:
        region[voxel] = True
    covered = np.zeros(region.shape, bool)
    for place, _ in windows(region, PATCH, step):
        assert covered[place].shape == PATCH
        covered[place] = True
        assert region[place].any()
    assert covered[region].all()


def test_gaussian_is_that_of_nnu_net():
    weights = gaussian_weights((16, 32, 8))
    assert weights.dtype == np.float32
    assert weights[8, 16, 4] == 1
    assert weights[8, 20, 4] == pytest.approx(np.exp(-0.5))  # one deviation of 32 / 8 beside the centre
    assert weights.min() > 1e-11


def test_a_region_is_covered_by_the_windows_that_it_needs():
    image = np.random.default_rng(0).normal(size=(12, 40, 40)).astype(np.float32)
    region = np.zeros(image.shape, bool)
    region[5:8, 10:14, 30:33] = True  # smaller than a patch
    seen = []

    def look(patches: np.ndarray) -> np.ndarray:
        seen.append(patches[0, 0])
        return itself(patches)

    probability = sliding_window(image, look, PATCH, region=region)
    window = np.s_[4:8, 9:15, 27:35]  # in its middle
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], image[window])
    np.testing.assert_allclose(probability[window], sigmoid(image[window]), atol=1e-5)
    probability[window] = 0
    assert not probability.any()


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


def ramp(patches: np.ndarray) -> np.ndarray:
    """Says how far to the left a voxel lies in its window, whatever the image."""
    return itself(np.broadcast_to(np.arange(8, dtype=np.float32), patches.shape))


@pytest.mark.parametrize("mirror", [2, 4, 8])
def test_mirroring_averages_over_flips(mirror):
    probability = sliding_window(np.zeros(PATCH, np.float32), ramp, PATCH, mirror=mirror)
    np.testing.assert_allclose(probability, sigmoid(3.5), rtol=1e-6)


def test_neighbouring_windows_are_mirrored_otherwise():
    blank = np.zeros((4, 6, 24), np.float32)  # three windows side by side, without overlap
    there, back = sigmoid(np.arange(8)), sigmoid(np.arange(8)[::-1])
    plain, mirrored = (sliding_window(blank, ramp, PATCH, 1.0, mirror)[0, 0] for mirror in (0, 1))
    np.testing.assert_allclose(plain, [*there, *there, *there], rtol=1e-6)
    np.testing.assert_allclose(mirrored, [*there, *back, *there], rtol=1e-6)


@pytest.mark.parametrize("mirror", [1, 2, 4, 8])
def test_a_window_is_run_once_with_each_of_its_flips(mirror):
    image = np.random.default_rng(0).normal(size=PATCH).astype(np.float32)
    seen = []

    def look(patches: np.ndarray) -> np.ndarray:
        seen.append(patches[0, 0])
        return itself(patches)

    sliding_window(image, look, PATCH, mirror=mirror)
    axes = [axes for count in range(4) for axes in itertools.combinations(range(3), count)]
    flips = [next(a for a in axes if np.array_equal(np.flip(image, a), patch)) for patch in seen]
    assert len(set(flips)) == len(flips) == mirror
    assert flips[0] == ()
    if 1 < mirror < 8:  # as different from each other as so many can be
        assert all(len(set(a) ^ set(b)) == {2: 3, 4: 2}[mirror] for a, b in itertools.combinations(flips, 2))


def test_half_steps_show_a_voxel_all_eight_flips():
    shape = (12, 18, 24)
    seen = np.zeros((*shape, 2, 2, 2), bool)
    for place, number in windows(np.ones(shape, bool), PATCH, 0.5):
        (flip,) = Window(place, number).flips(1)
        seen[place][..., *map(int, flip)] = True
    half = [p // 2 for p in PATCH]
    inner = tuple(slice(h, -h) for h in half)  # in two windows along each axis
    assert seen[inner].all()
    assert not seen[0, 0, 0].all()


def test_another_mirroring_is_refused():
    with pytest.raises(ValueError, match="^Mirroring must be one of 0, 1, 2, 4, 8, not True$"):
        sliding_window(np.zeros(PATCH, np.float32), itself, PATCH, mirror=True)


def test_other_than_two_classes_are_refused():
    with pytest.raises(ValueError, match="2 classes, background and node, not 3"):
        sliding_window(np.zeros(PATCH, np.float32), lambda p: np.repeat(p, 3, axis=1), PATCH)
