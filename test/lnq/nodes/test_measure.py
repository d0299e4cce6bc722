"""Sizes of analytic shapes, and what is said of place and density."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lnq.image.volume import Volume, make_affine
from lnq.nodes.measure import Landmarks, agreement, axes_mm, diameter_mm, measure_nodes

NOWHERE = Landmarks(None, None)


def ellipsoid(
    radii_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    turn: np.ndarray | None = None,
    shift: float = 0.0,
) -> np.ndarray:
    """bool [Z, Y, X]: voxels whose centres lie within; radii along z, y, x before `turn`, a rotation [3, 3]."""
    reach = max(radii_mm) + 2 * max(spacing_mm)
    axes = [np.arange(-math.ceil(reach / s), math.ceil(reach / s) + 1) * s + shift for s in spacing_mm]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    if turn is not None:
        points = points @ turn
    return ((points / np.array(radii_mm)) ** 2).sum(axis=-1) <= 1


def in_plane(angle_deg: float) -> np.ndarray:
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.7, 0.7), (3.0, 0.8, 0.8), (5.0, 0.9, 0.9), (2.0, 0.6, 0.9)])
@pytest.mark.parametrize("diameter", [8.3, 15.1, 24.7])
def test_axes_of_a_sphere_are_its_diameter_within_a_pixel(diameter, spacing_mm):
    sphere = ellipsoid((diameter / 2,) * 3, spacing_mm)
    short, long = axes_mm(sphere, spacing_mm)
    assert short == pytest.approx(diameter, abs=spacing_mm[2])
    assert long == pytest.approx(diameter, abs=spacing_mm[2])
    assert diameter_mm(sphere, spacing_mm) == pytest.approx(diameter, abs=max(spacing_mm))


@pytest.mark.parametrize("angle", [0, 17, 45, 60, 90])
@pytest.mark.parametrize("slice_mm", [1.0, 3.0, 5.0])
def test_axes_of_a_turned_ellipsoid_are_those_of_its_axial_section(angle, slice_mm):
    spacing = (slice_mm, 0.8, 0.8)
    short, long = axes_mm(ellipsoid((9, 4, 10), spacing, in_plane(angle)), spacing)
    assert (short, long) == pytest.approx((8, 20), abs=0.8)


@pytest.mark.parametrize(("radii", "axes"), [((4, 10, 6), (12, 20)), ((20, 5, 9), (10, 18))])
def test_the_axes_lie_in_the_axial_plane(radii, axes):
    assert axes_mm(ellipsoid(radii, (1.0, 0.5, 0.5)), (1.0, 0.5, 0.5)) == pytest.approx(axes, abs=0.5)


def test_the_diameter_does_not():
    assert diameter_mm(ellipsoid((20, 5, 9), (1.0, 0.5, 0.5)), (1.0, 0.5, 0.5)) == pytest.approx(40, abs=1)


def test_the_short_axis_of_a_turned_bar_is_its_width():
    y, x = np.indices((60, 60)) - 29.6
    across, along = (x + y) / math.sqrt(2), (x - y) / math.sqrt(2)
    bar = (np.abs(across) <= 5) & (np.abs(along) <= 20)
    short, long = axes_mm(bar[None], (1.0, 0.5, 0.5))
    assert short == pytest.approx(5, abs=0.5)
    assert long == pytest.approx(math.hypot(5, 20), abs=0.7)


def test_a_single_voxel_and_nothing_have_axes():
    voxel, nothing = np.ones((1, 1, 1), bool), np.zeros((2, 2, 2), bool)
    assert axes_mm(voxel, (3.0, 1.0, 1.0)) == pytest.approx((math.sqrt(0.5), 1.0))
    assert diameter_mm(voxel, (3.0, 1.0, 1.0)) == pytest.approx(3.0)
    assert axes_mm(nothing, (3.0, 1.0, 1.0)) == (0.0, 0.0)
    assert diameter_mm(nothing, (3.0, 1.0, 1.0)) == 0.0


@pytest.mark.parametrize("diameter", [8.5, 12.0, 20.0])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_volume_of_a_sphere_in_thin_slices_is_right_within_3_percent(diameter, shift):
    spacing = (1.0, 0.7, 0.7)
    sphere = ellipsoid((diameter / 2,) * 3, spacing, shift=shift)
    nodes, _ = measure_nodes(Volume(sphere.astype(np.uint8), make_affine(spacing)), sphere, sphere, NOWHERE)
    assert [n.volume_mm3 for n in nodes] == pytest.approx([math.pi / 6 * diameter**3], rel=0.03)


def test_nodes_go_from_the_head_downwards_with_place_density_and_class():
    mask = np.zeros((10, 40, 40), np.uint8)
    mask[1, 5:17, 2:14] = 1  # 12 x 12 mm
    mask[5, 30, 20] = 1
    mask[6, 31, 21] = 1  # touches at a corner: one node
    mask[8, 10:30, 20:40] = 1
    hu, probability = np.full(mask.shape, 40.0, np.float32), np.full(mask.shape, 0.9, np.float32)
    hu[5, 30, 20], probability[5, 30, 20] = 60.0, 0.7
    grid = Volume(mask, make_affine((2.0, 1.0, 1.0), origin_mm=(-20.0, 0.0, 100.0)))
    (high, middle, low), numbers = measure_nodes(grid, hu, probability, Landmarks(0.0, (0.0, 0.0, 110.0)))
    assert [high.number, middle.number, low.number] == [1, 2, 3]
    assert [int(numbers[at]) for at in ((8, 10, 20), (5, 30, 20), (6, 31, 21), (1, 5, 2))] == [1, 2, 2, 3]
    assert np.array_equal(numbers > 0, mask > 0)
    assert high.centroid_lps_mm == pytest.approx((9.5, 19.5, 116.0))
    assert middle.centroid_lps_mm == pytest.approx((0.5, 30.5, 111.0))
    assert [n.side for n in (high, middle, low)] == ["middle", "middle", "right"]
    assert [n.above_carina_mm for n in (high, middle, low)] == pytest.approx([6.0, 1.0, -8.0])
    assert [n.short_axis_class for n in (high, middle, low)] == ["15 mm and more", "below 10 mm", "10 to 15 mm"]
    assert (middle.volume_mm3, middle.mean_hu) == pytest.approx((4.0, 50.0))
    assert middle.mean_probability == pytest.approx(0.8)


@pytest.mark.parametrize(("pixels", "named"), [(100, "10 to 15 mm"), (99.4, "below 10 mm"), (99.6, "10 to 15 mm")])
def test_the_class_is_that_of_the_axis_as_reported(pixels, named):
    mask = np.ones((1, 10, 20), np.uint8)
    grid = Volume(mask, make_affine((1.0, pixels / 100, pixels / 100)))
    (node,), _ = measure_nodes(grid, mask, mask, NOWHERE)
    assert node.short_axis_mm == pytest.approx(pixels / 10)
    assert node.short_axis_class == named


def test_nodes_of_an_oblique_mask_are_measured_in_its_slices():
    turn = np.array([[1, 0, 0], [0, math.cos(0.3), -math.sin(0.3)], [0, math.sin(0.3), math.cos(0.3)]])
    grid = Volume(np.ones((1, 10, 20), np.uint8), make_affine((3.0, 1.0, 1.0), direction=turn @ np.eye(3)[::-1]))
    (node,), _ = measure_nodes(grid, grid.array, grid.array, NOWHERE)
    assert (node.short_axis_mm, node.volume_mm3) == pytest.approx((10, 600))
    assert node.centroid_lps_mm == pytest.approx((9.5, 4.5 * math.cos(0.3), 4.5 * math.sin(0.3)))


def test_without_landmarks_there_is_no_side_or_level():
    mask = Volume(np.ones((1, 2, 2), np.uint8), make_affine((1.0, 1.0, 1.0)))
    (node,), _ = measure_nodes(mask, mask.array, mask.array, NOWHERE)
    assert (node.side, node.above_carina_mm) == (None, None)


def test_an_empty_mask_has_no_nodes():
    mask = Volume(np.zeros((3, 4, 5), np.uint8), make_affine((1.0, 1.0, 1.0)))
    nodes, numbers = measure_nodes(mask, mask.array, mask.array, NOWHERE)
    assert nodes == []
    assert not numbers.any()


def test_networks_agree_on_a_node_of_which_they_mark_half():
    numbers = np.array([[[1, 1, 0, 2, 2, 2]]], np.int16)
    marks = ([1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [1, 0, 0, 1, 1, 1])
    found = agreement(numbers, 2, (np.array([[mark]], bool) for mark in marks))
    assert found == [3 / 4, 2 / 4]  # of node 1: both, one of two, none, one of two; of node 2: 2, 1, 0 and 3 of three
    assert agreement(np.zeros((1, 2, 2), np.int16), 0, [np.ones((1, 2, 2), bool)] * 2) == []
