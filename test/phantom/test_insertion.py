"""Nodes inserted into a CT: where they lie, what they look like, and what stays untouched."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from lnq.errors import ImageError
from lnq.image.volume import Volume, make_affine
from phantom import insertion


@pytest.fixture(scope="module")
def background(without_contrast):
    return insertion.study_background(without_contrast.ct)


def test_nodes_are_denser_than_the_fat_they_replace_and_the_rest_is_untouched(background):
    ct, labels, nodes = insertion.insert_nodes(background, seed=5, count=8)
    assert len(nodes) >= 4
    assert sorted(set(np.unique(labels.array)) - {0}) == [n.label for n in nodes]
    marked = labels.array > 0
    assert (ct.array[marked].mean() - background.ct.array[marked].mean()) > 50
    far = ndimage.distance_transform_edt(~marked, background.ct.spacing_mm) > 12
    assert np.array_equal(ct.array[far], background.ct.array[far])
    assert np.array_equal(ct.affine, background.ct.affine)


def test_nodes_lie_mostly_in_fat(background):
    _, labels, nodes = insertion.insert_nodes(background, seed=6, count=8)
    for node in nodes:
        inside = labels.array == node.label
        assert (background.smooth[inside] > insertion.SOFT_HU).mean() < 0.5
        assert (background.smooth[inside] < insertion.LUNG_HU).mean() < 0.1


def test_the_same_seed_gives_the_same_case(background):
    first, second = (insertion.insert_nodes(background, seed=7, count=4) for _ in range(2))
    assert np.array_equal(first[0].array, second[0].array)
    assert first[2] == second[2]
    other = insertion.insert_nodes(background, seed=8, count=4)
    assert not np.array_equal(first[1].array, other[1].array)


@pytest.mark.parametrize("sigma_mm", [0.5, 0.8, 1.1])
def test_sharpness_of_a_blurred_step_is_its_sigma(sigma_mm):
    spacing = (3.0, 0.5, 0.5)
    array = np.full((4, 64, 128), -850.0, dtype=np.float32)
    array[:, :, 64:] = 50.0
    blurred = ndimage.gaussian_filter1d(array, sigma_mm / spacing[2], axis=2)
    volume = Volume(np.rint(blurred).astype(np.int16), make_affine(spacing))
    assert insertion._edge_sigma_mm(volume) == pytest.approx(sigma_mm, rel=0.15)


def test_noise_has_the_spread_of_the_background():
    rng = np.random.default_rng(0)
    array = rng.normal(40.0, 15.0, (20, 60, 60)).astype(np.int16)
    volume = Volume(array, make_affine((2.0, 1.0, 1.0)))
    smooth = np.full(array.shape, 40.0, dtype=np.float32)
    centres = np.array([[10, 30, 30]])
    made = insertion.Background(volume, smooth, centres, centres, 0.5, "none")
    noise = insertion._noise(rng, made, (6, 20, 20))
    assert noise.shape == (6, 20, 20)
    assert noise.std() == pytest.approx(15.0, rel=0.1)


def test_a_ct_without_lungs_is_refused():
    array = np.full((20, 64, 64), 40, dtype=np.int16)
    with pytest.raises(ImageError, match="nodes can only be inserted into a CT with two lungs"):
        insertion.study_background(Volume(array, make_affine((5.0, 5.0, 5.0))))


def test_a_node_averages_through_the_slice(background):
    """A 5 mm node in 4 mm slices: some slices hold it in part, so that occupancy takes values between 0 and 1."""
    shape = insertion.draw_node(np.random.default_rng(1), 5.0, kind="plain")
    sharp = dataclasses.replace(background, edge_sigma_mm=0.0)
    occupancy = insertion._fit(shape, background.candidates[0], sharp).occupancy
    per_slice = occupancy.max(axis=(1, 2))
    assert ((per_slice > 0.05) & (per_slice < 0.95)).any()
    volume_mm3 = occupancy.sum() * background.ct.voxel_volume_mm3
    grid = np.stack(np.meshgrid(*[np.arange(-12, 12.1, 0.3)] * 3, indexing="ij"), axis=-1)
    assert volume_mm3 == pytest.approx((shape.signed_distance(grid) < 0).sum() * 0.3**3, rel=0.12)


def test_below_the_hila_nodes_lie_near_the_midline():
    """A box between the lungs, 40 slices high: below 62 % of it from the apex, 30 mm to each side are left."""
    between = np.zeros((40, 50, 120), bool)
    between[:, :, 10:110] = True
    used = insertion._stations(between, column_mm=1.5)
    columns = [np.flatnonzero(used[z].any(axis=0)) for z in range(40)]
    assert [(c[0], c[-1]) for c in columns[20:]] == [(10, 109)] * 20
    assert [(c[0], c[-1]) for c in columns[:14]] == [(40, 79)] * 14  # 59.5 is the middle, 20 columns are 30 mm
