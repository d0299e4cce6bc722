"""Texture from the CT's own soft tissue."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from phantom.insertion.block import BlockSites, draw_texture, find_homogeneous, find_sites

SPACING_MM = (2.0, 1.0, 1.0)


def sites_of(homogeneous: np.ndarray) -> tuple[BlockSites, ...]:
    return find_sites(homogeneous, np.zeros(3, int), SPACING_MM)


def test_sites_lie_wholly_in_homogeneous_tissue():
    homogeneous = np.zeros((20, 50, 60), bool)
    homogeneous[3:15, 10:40, 20:50] = True  # 24 x 30 x 30 mm
    sites = find_sites(homogeneous, np.array([100, 0, 0]), SPACING_MM)
    assert [s.size for s in sites] == [(6, 12, 12), (9, 18, 18)]  # 27 mm need 14 slices
    low, high = sites[0].corners.min(axis=0), sites[0].corners.max(axis=0)
    assert low.tolist() == [103, 10, 20] and high.tolist() == [100 + 15 - 6, 40 - 12, 50 - 12]
    assert sites_of(np.zeros((20, 50, 60), bool)) == ()


def test_the_border_between_two_levels_of_blood_is_not_homogeneous():
    smooth = np.full((20, 60, 80), 110.0, np.float32)
    smooth[:, :, 40:] = 330.0
    smooth += ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 12, smooth.shape), (0, 1, 1))
    found = find_homogeneous(smooth, SPACING_MM)
    assert not found[:, :, 37:43].any()
    assert found[4:-4, 6:-6, 10:30].mean() > 0.8 and found[4:-4, 6:-6, 50:70].mean() > 0.8
    assert not find_homogeneous(np.full((8, 20, 20), -100.0, np.float32), SPACING_MM).any()


def test_one_block_is_a_raw_copy():
    ct = np.random.default_rng(0).integers(-20, 100, (12, 30, 30)).astype(np.int16)
    site = BlockSites((6, 12, 12), np.array([[2, 3, 4]]))
    texture = draw_texture(np.random.default_rng(1), ct, [site], (6, 12, 12), np.zeros(3), SPACING_MM)
    block = ct[2:8, 3:15, 4:16].astype(np.float32)
    mirrored = [block[::a, ::b, ::c] - np.median(block) for a, b, c in itertools.product((1, -1), repeat=3)]
    assert any(np.array_equal(texture, m) for m in mirrored)


def test_blocks_side_by_side_show_no_seam():
    """Noise of 15 HU, blurred like a CT's: its spread is the same everywhere, and so are steps between neighbours."""
    rng = np.random.default_rng(0)
    ct = ndimage.gaussian_filter(rng.normal(0, 1, (40, 90, 90)), (0, 0.8, 0.8))
    ct = (40 + ct / ct.std() * 15).astype(np.float32)
    sites = sites_of(np.ones((9, 18, 18), bool))[:1]
    sites = (BlockSites(sites[0].size, np.argwhere(np.ones((34, 78, 78), bool))),)
    drawn = [draw_texture(rng, ct, sites, (16, 40, 44), np.array([20, 45, 45]), SPACING_MM) for _ in range(12)]
    assert drawn[0].shape == (16, 40, 44)
    assert all(abs(np.median(d)) < 1e-3 for d in drawn)
    stack = np.stack(drawn)  # [12, Z, Y, X]
    for axis in (1, 2, 3):
        others = tuple({0, 1, 2, 3} - {axis})
        np.testing.assert_allclose(stack.std(axis=others), 15.0, rtol=0.2)
        steps = np.diff(stack, axis=axis).std(axis=others)
        np.testing.assert_allclose(steps, np.diff(ct, axis=axis - 1).std(), rtol=0.25)


def test_blocks_are_taken_nearby_where_noise_is_alike():
    rng = np.random.default_rng(0)
    ct = rng.normal(40, 5, (30, 60, 200)).astype(np.float32)
    ct[:, :, 100:] = rng.normal(40, 20, (30, 60, 100))
    homogeneous = np.ones(ct.shape, bool)
    homogeneous[:, :, 90:110] = False
    homogeneous[::15, ::20, :100] = False  # large blocks fit into the noisy half alone
    for x, spread in ((20, 5.0), (180, 20.0)):
        texture = draw_texture(rng, ct, sites_of(homogeneous), (12, 30, 30), np.array([15, 30, x]), SPACING_MM)
        assert texture.std() == pytest.approx(spread, rel=0.15)


def test_without_sites_there_is_no_texture():
    texture = draw_texture(np.random.default_rng(0), np.zeros((4, 4, 4)), (), (2, 3, 4), np.zeros(3), SPACING_MM)
    assert texture.shape == (2, 3, 4) and not texture.any()
