"""Distances on the coarse grid, against scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from phantom.scene import COARSE_MM, distance_to_mask


@pytest.mark.parametrize("seed", range(3))
def test_distance_to_a_mask_is_scipys_to_the_bit(seed: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(17, 24, 31)), 2)
    mask = noise > 0
    outside, inside = (ndimage.distance_transform_edt(one, sampling=COARSE_MM) for one in (~mask, mask))
    wanted = np.where(mask, COARSE_MM / 2 - inside, outside - COARSE_MM / 2).astype(np.float32)
    np.testing.assert_array_equal(distance_to_mask(mask), wanted)
    assert wanted.min() < -COARSE_MM and wanted.max() > COARSE_MM
