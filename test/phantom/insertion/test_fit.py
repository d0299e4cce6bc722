"""Nodes on the grid of a CT."""

import numpy as np
import pytest

from phantom.insertion.draw import Group, GroupedNode
from phantom.insertion.fit import box_around, fit_group
from phantom.nodes import Ellipsoid, NodeShape, draw_node

SHAPE, SPACING_MM = (30, 80, 80), (4.0, 0.8, 0.8)
CENTRE = np.array([15.0, 40.0, 40.0])


def ball(radius_mm: float) -> NodeShape:
    nothing = np.zeros((0, 3)), np.zeros(0)
    main = Ellipsoid(np.zeros(3), np.eye(3) / radius_mm)
    return NodeShape("plain", 2 * radius_mm, main, (), 0.0, *nothing, None, 0.0, radius_mm + 1)


def alone(shape: NodeShape) -> Group:
    return Group((GroupedNode(shape, np.zeros(3), "parametric"),))


def test_a_node_averages_through_the_slice():
    """A 5 mm node in 4 mm slices: some slices hold it in part, so that occupancy takes values between 0 and 1."""
    shape = draw_node(np.random.default_rng(1), 5.0, kind="plain")
    fitted = fit_group(alone(shape), CENTRE, SHAPE, SPACING_MM, 0.0)
    per_slice = fitted.occupancy.max(axis=(1, 2))
    assert ((per_slice > 0.05) & (per_slice < 0.95)).any()
    grid = np.stack(np.meshgrid(*[np.arange(-12, 12.1, 0.3)] * 3, indexing="ij"), axis=-1)
    volume_mm3 = fitted.occupancy.sum() * np.prod(SPACING_MM)
    assert volume_mm3 == pytest.approx((shape.signed_distance(grid) < 0).sum() * 0.3**3, rel=0.12)


@pytest.mark.parametrize("sigma_mm", [0.0, 0.8])
def test_a_ball_has_its_volume_and_place_whatever_the_blur(sigma_mm):
    centre = CENTRE + np.array([0.25, -0.5, 0.3])
    fitted = fit_group(alone(ball(10.0)), centre, SHAPE, SPACING_MM, sigma_mm)
    assert fitted.occupancy.sum() * np.prod(SPACING_MM) == pytest.approx(4 / 3 * np.pi * 1000, rel=0.02)
    index = np.argwhere(fitted.occupancy > 0) + [s.start for s in fitted.box]
    weights = fitted.occupancy[fitted.occupancy > 0]
    np.testing.assert_allclose(np.average(index, axis=0, weights=weights), centre, atol=0.03)


def test_nodes_that_touch_have_no_gap_and_each_its_own_voxels():
    """Two balls of 6 and 4 mm radius whose surfaces meet 1 mm to the right of the middle."""
    members = (GroupedNode(ball(6.0), np.array([0, 0, -5.0]), "a"), GroupedNode(ball(4.0), np.array([0, 0, 5.0]), "b"))
    spacing = (1.0, 0.5, 0.5)
    fitted = fit_group(Group(members), np.array([20.0, 40.0, 40.0]), (40, 80, 80), spacing, 0.6)
    middle = [20 - fitted.box[0].start, 40 - fitted.box[1].start]
    line = fitted.occupancy[middle[0], middle[1]]
    at = 42 - fitted.box[2].start
    assert line[at] > 0.9  # where the surfaces meet
    first, second = fitted.voxels_of(0), fitted.voxels_of(1)
    assert not (first & second).any()
    assert first[middle[0], middle[1], at - 1] and second[middle[0], middle[1], at + 1]
    assert second.sum() * 0.25 == pytest.approx(4 / 3 * np.pi * 64, rel=0.1)


def test_a_box_ends_at_the_grid():
    assert box_around(np.array([1.0, 5.0, 9.0]), 3.0, (1.0, 1.0, 2.0), (10, 10, 10)) == np.s_[0:5, 2:9, 7:10]
