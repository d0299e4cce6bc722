from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnq.image.resample import (
    Orientation,
    axis_weights,
    box_reaching,
    reorient_to_lps,
    resample_array_to,
    resample_image,
    resample_label_to,
)
from lnq.image.volume import Volume, make_affine

LPS = np.eye(3)[::-1]  # columns z, y, x: z to S, y to P, x to L


def turn(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.eye(3)
    a, b = [i for i in range(3) if i != axis]
    rotation[a, a] = rotation[b, b] = c
    rotation[a, b], rotation[b, a] = -s, s
    return rotation


def positions(volume: Volume) -> np.ndarray:
    """(L, P, S) of every voxel, [3, Z, Y, X]."""
    index = np.indices(volume.shape).reshape(3, -1)
    return (volume.affine[:3, :3] @ index + volume.affine[:3, 3:]).reshape(3, *volume.shape)


def ramp(volume: Volume) -> Volume:
    """A value that is linear in the patient's axes, so that linear resampling keeps it."""
    left, back, up = positions(volume)
    return volume.with_array((2 * left - 3 * back + 0.5 * up).astype(np.float32))


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("tilt", [0.0, 15.0])
def test_reorienting_keeps_every_voxel_in_its_place(axes, signs, tilt):
    direction = turn(tilt, 0) @ (LPS * signs)[:, axes]
    volume = ramp(Volume(np.zeros((3, 4, 5), np.float32), make_affine((3, 2, 1), (5, 6, 7), direction)))
    lps, orientation = reorient_to_lps(volume)
    np.testing.assert_allclose(lps.array, ramp(lps).array, atol=1e-4)
    assert np.argmax(np.abs(lps.direction), axis=0).tolist() == [2, 1, 0]
    assert (np.diag(lps.direction[::-1]) > 0.9).all()
    np.testing.assert_array_equal(orientation.undo(lps.array), volume.array)
    np.testing.assert_array_equal(orientation.apply(volume.array), lps.array)


def test_a_volume_in_lps_is_left_alone():
    volume = Volume(np.arange(24).reshape(2, 3, 4), make_affine((3, 1, 1)))
    lps, orientation = reorient_to_lps(volume)
    assert orientation.axes == (0, 1, 2)
    assert not any(orientation.flips)
    np.testing.assert_array_equal(lps.affine, volume.affine)


@given(
    n_in=st.integers(1, 12),
    n_out=st.integers(1, 12),
    scale=st.floats(0.2, 5),
    offset=st.floats(-3, 12),
)
@settings(deadline=None)
def test_weights_of_a_voxel_sum_to_one_at_most(n_in, n_out, scale, offset):
    total = axis_weights(n_out, n_in, scale, offset).sum(axis=1)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    inside = axis_weights(n_out, n_in, scale, offset, outside_zero=True)
    assert inside.min() >= 0
    assert inside.sum(axis=1).max() <= 1 + 1e-5


def test_coarser_is_the_mean_over_the_area():
    np.testing.assert_allclose(axis_weights(2, 4, 2, 0.5), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    # Voxels of 1.5: the second covers half of voxel 1 and all of voxel 2.
    np.testing.assert_allclose(axis_weights(2, 3, 1.5, 0.25), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-6)


def test_finer_is_linear_between_the_centres():
    np.testing.assert_allclose(axis_weights(4, 2, 0.5, -0.25), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_an_image_keeps_its_extent_and_its_place():
    volume = ramp(Volume(np.zeros((10, 24, 24), np.int16), make_affine((3, 1, 1), (-4, 5, 6), turn(10, 2) @ LPS)))
    # Voxels of 1.5 whose parts weigh by their area lie up to 1/12 voxel beside the linear value.
    for spacing, error in [((3, 1, 1), 1e-4), ((6, 2, 2), 1e-4), ((1.5, 0.5, 0.5), 1e-4), ((2, 1.5, 0.8), 0.4)]:
        image = resample_image(volume, spacing)
        np.testing.assert_allclose(image.spacing_mm, spacing)
        extent = np.array(image.shape) * spacing
        assert (np.abs(extent - (30, 24, 24)) <= np.array(spacing) / 2 + 1e-9).all()
        corner = image.affine @ [-0.5, -0.5, -0.5, 1]
        np.testing.assert_allclose(corner, volume.affine @ [-0.5, -0.5, -0.5, 1], atol=1e-9)
        inner = (slice(2, -2),) * 3
        np.testing.assert_allclose(image.array[inner], ramp(image).array[inner], atol=error)
        assert image.array.dtype == np.float32


def test_a_single_slice_and_a_single_voxel_survive():
    volume = Volume(np.full((1, 8, 8), 7, np.int16), make_affine((5, 1, 1)))
    assert resample_image(volume, (3, 2, 2)).array.tolist() == np.full((2, 4, 4), 7.0).tolist()
    assert resample_image(volume, (50, 50, 50)).array.tolist() == [[[7.0]]]


@pytest.mark.parametrize("direction", [LPS, LPS[:, [2, 0, 1]], -LPS, turn(25, 1) @ LPS])
def test_a_label_reaches_a_grid_by_its_place_in_the_patient(direction):
    grid = Volume(np.zeros((20, 40, 40)), make_affine((2, 1, 1), (-20, -20, -20)))
    centre = np.array([20, 18, 22]) * 1.0
    origin = -direction @ centre  # so that voxel (20, 18, 22) lies at the patient's origin
    label = Volume(np.zeros((40, 36, 44), np.uint16), make_affine((1, 1, 1), origin, direction))
    radius = np.linalg.norm(positions(label), axis=0)
    label = label.with_array((radius <= 9).astype(np.uint16) * 5)
    moved = resample_label_to(label, grid)
    assert moved.array.dtype == np.uint8
    expected = np.linalg.norm(positions(grid), axis=0) <= 9
    agreement = 2 * (moved.array & expected).sum() / (moved.array.sum() + expected.sum())
    assert agreement > 0.97


def test_a_label_smaller_than_its_image_is_placed_and_padded():
    grid = Volume(np.zeros((4, 6, 8)), make_affine((3, 1, 1)))
    label = Volume(np.ones((2, 2, 2), np.uint8), make_affine((3, 1, 1), (5, 2, 3)))
    moved = resample_label_to(label, grid).array
    assert moved.sum() == 8
    assert moved[1:3, 2:4, 5:7].all()


def test_a_label_covering_half_of_a_voxel_is_kept():
    label = Volume(np.array([1, 0, 0, 0], np.uint8).reshape(1, 1, 4), make_affine((1, 1, 1)))
    grid = resample_image(label, (1, 1, 2))
    assert resample_label_to(label, grid).array.tolist() == [[[1, 0]]]


def test_a_probability_comes_back_to_the_grid_it_came_from():
    fine = Volume(np.zeros((12, 30, 30), np.float32), make_affine((2, 0.8, 0.8), (3, 4, 5), turn(12, 0) @ LPS))
    coarse = ramp(resample_image(fine, (3, 1.5, 1.5)))
    back = resample_array_to(coarse.array, coarse, fine)
    assert back.shape == fine.shape
    inner = (slice(2, -2), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(back[inner], ramp(fine).array[inner], atol=0.02)
    ones = resample_array_to(np.ones(coarse.shape, np.float32), coarse, fine)
    np.testing.assert_allclose(ones, 1, atol=1e-5)  # to the very edge
    box = (slice(3, 7), slice(10, 30), slice(0, 12))
    np.testing.assert_array_equal(resample_array_to(coarse.array, coarse, fine, box), back[box])


@given(
    spots=st.lists(st.tuples(*[st.integers(0, 8)] * 3, st.floats(0, 1, width=32)), max_size=3),
    least=st.floats(0.0625, 1, width=32),
    spacing=st.sampled_from([(1.0, 0.8, 0.8), (3.0, 1.5, 1.5), (5.0, 0.6, 2.0)]),
    flips=st.tuples(*[st.booleans()] * 3),
    axes=st.permutations(range(3)),
)
def test_no_value_outside_the_box_reaches_the_least_one(spots, least, spacing, flips, axes):
    source = Volume(np.zeros((9, 9, 9), np.float32), make_affine((2, 1.5, 1.5)))
    for z, y, x, value in spots:
        source.array[z, y, x] = value
    fine = resample_image(source, spacing)
    target = Orientation(tuple(axes), flips)
    grid = Volume(target.undo(fine.array), undone_affine(fine, target))
    box = (slice(1, None), slice(0, -1), slice(None))
    whole = np.zeros(grid.shape, np.float32)
    whole[box] = resample_array_to(source.array, source, grid, box)
    found = box_reaching(source.array, least, source, grid, box)
    np.testing.assert_array_equal(resample_array_to(source.array, source, grid, found), whole[found])
    whole[found] = 0
    assert (whole < least).all()


def undone_affine(volume: Volume, orientation: Orientation) -> np.ndarray:
    """The affine of `orientation.undo(volume.array)`, from the positions of its voxels."""
    places = np.moveaxis(np.indices(volume.shape), 0, -1).astype(float) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    undone = np.stack([orientation.undo(places[..., i]) for i in range(3)], axis=-1)
    first = undone[0, 0, 0]
    affine = np.eye(4)
    for axis, step in enumerate(np.eye(3, dtype=int)):
        affine[:3, axis] = undone[tuple(step)] - first
    affine[:3, 3] = first
    return affine


def test_between_grids_that_are_turned_the_box_is_the_whole_one():
    source = ramp(Volume(np.zeros((6, 7, 8), np.float32), make_affine((2, 1, 1))))
    grid = Volume(np.zeros((5, 6, 7), np.float32), make_affine((2, 1, 1), direction=turn(12, 0) @ LPS))
    box = (slice(1, 4), slice(None), slice(2, None))
    assert box_reaching(source.array, 1e9, source, grid, box) == (slice(1, 4), slice(0, 6), slice(2, 7))
