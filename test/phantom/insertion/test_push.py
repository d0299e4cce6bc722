"""Tissue pushed outward by a node: how far, in order, and what stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantom.insertion.collection import read_collection
from phantom.insertion.draw import Group, GroupedNode, draw_group
from phantom.insertion.push import LIMIT, Push, displacement_mm, push_of, pushed
from phantom.insertion.sampled import sample_shape
from phantom.insertion.tissue import AIRWAY, FAT

SPACING_MM = (2.0, 1.0, 1.0)
SIZE = (41, 81, 81)
BOX = tuple(slice(0, n) for n in SIZE)
CENTRE = np.array([20.0, 40.0, 40.0])


@pytest.fixture(scope="module")
def ball(shapes) -> Group:
    """A ball of 24 mm."""
    node = read_collection(shapes)[2]
    shape = sample_shape(np.random.default_rng(0), node, 24.0 / node.short_axis_mm, np.eye(3), kind="plain")
    return Group((GroupedNode(shape, np.zeros(3), node.name),))


@given(st.floats(4, 60))
def test_tissue_keeps_its_order_along_the_gradient(short_axis_mm):
    """The tissue at distance s comes from s - u(s). That rises with s, at the surface by 1 + D / L, less than 2."""
    push = push_of(short_axis_mm)
    s = np.linspace(0, 80, 4001)
    source = s - push.by_mm(s) if push.depth_mm else s
    slope = np.diff(source) / np.diff(s)
    assert (slope > 0.999).all() and (slope < 2).all()
    assert push.depth_mm <= 0.25 * short_axis_mm + 1e-9


def test_small_nodes_push_nothing_and_bulky_ones_up_to_12_mm():
    assert push_of(7.0).depth_mm == 0
    assert push_of(20.0).depth_mm == pytest.approx(5.0)  # half of the half-thickness
    assert push_of(60.0).depth_mm == 12.0


def test_the_push_falls_exponentially_and_ends():
    push = Push(depth_mm=6.0, range_mm=10.0)
    assert push.by_mm(np.array([-3.0, 0.0])).tolist() == [6.0, 6.0]
    assert push.by_mm(np.array([10.0]))[0] == pytest.approx(6 * (np.exp(-1) - np.exp(-4)) / (1 - np.exp(-4)))
    assert push.by_mm(np.array([40.0, 55.0])).tolist() == [0.0, 0.0]
    assert push.limit_mm == LIMIT * 10.0


def test_around_a_ball_the_push_points_outward(ball):
    push = Push(4.0, 6.4)
    moved = displacement_mm(ball, CENTRE, push, np.full(SIZE, FAT, np.uint8), BOX, SPACING_MM)
    for s in (4.0, 8.0):
        x = 40 + 12 + int(s)
        np.testing.assert_allclose(moved[:, 20, 40, x], [0, 0, push.by_mm(np.array(s))], atol=0.4)
        np.testing.assert_allclose(moved[:, 20, 80 - x, 40], [0, -push.by_mm(np.array(s)), 0], atol=0.4)
    z, y, x = np.meshgrid(*(np.arange(n) for n in SIZE), indexing="ij")
    radius = np.sqrt((2.0 * (z - 20)) ** 2 + (y - 40) ** 2 + (x - 40) ** 2)
    assert (moved[:, radius > 12 + push.limit_mm + 3] == 0).all()


def test_airways_stay_and_what_lies_between_is_pushed_less(ball):
    push = Push(4.0, 6.4)
    classes = np.full(SIZE, FAT, np.uint8)
    classes[:, 35:46, 58:66] = AIRWAY
    moved = displacement_mm(ball, CENTRE, push, classes, BOX, SPACING_MM)
    assert np.abs(moved[:, classes == AIRWAY]).max() < 0.3
    assert np.linalg.norm(moved[:, 20, 40, 54]) < 0.5 * np.linalg.norm(moved[:, 20, 40, 26])  # 2 mm from either side


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_nothing_folds_outside_a_cluster(shapes_read, seed, beside_airway):
    """The way back to where tissue came from has a positive Jacobian determinant at every voxel outside."""
    group = draw_group(np.random.default_rng(seed), 16.0, True, shapes_read)
    push = push_of(group.short_axis_mm)
    classes = np.full(SIZE, FAT, np.uint8)
    if beside_airway:
        classes[:, :, 60:66] = AIRWAY
    moved = displacement_mm(group, CENTRE, push, classes, BOX, SPACING_MM)
    z, y, x = np.meshgrid(*(np.arange(n) for n in SIZE), indexing="ij")
    points = (np.stack([z, y, x], axis=-1) - CENTRE) * SPACING_MM
    back = np.moveaxis(points, -1, 0) - moved
    gradients = [np.gradient(component, *SPACING_MM) for component in back]
    jacobian = np.moveaxis(np.array(gradients), (0, 1), (-2, -1))
    outside = group.signed_distance(points) > 2.0
    assert np.linalg.det(jacobian)[outside].min() > 0


@pytest.fixture(scope="module")
def shapes_read(shapes):
    return read_collection(shapes)[:2]


def test_values_come_from_where_the_tissue_was_and_the_rest_stays_as_it_is():
    values = np.random.default_rng(0).normal(0, 100, (4, 20, 30)).astype(np.float32)
    moved = np.zeros((3, 4, 20, 30))
    moved[2, :, :, 10:20] = 3.0  # mm along x: tissue has moved by 2 voxels of 1.5 mm
    for order in (0, 3):
        result = pushed(values, moved, (2.0, 1.5, 1.5), order)
        np.testing.assert_allclose(result[:, :, 10:20], values[:, :, 8:18], atol=1e-3)
        assert np.array_equal(result[:, :, :10], values[:, :, :10])
        assert np.array_equal(result[:, :, 20:], values[:, :, 20:])
