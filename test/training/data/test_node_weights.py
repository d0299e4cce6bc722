"""Weights of small nodes, by hand, and as properties of random masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lnq.image.components import label
from training.data.node_weights import MOST, node_weights

SPACING_MM = (3.0, 1.5, 1.5)  # 6.75 mm3 a voxel
BALL_MM3 = math.pi / 6.0 * 10.0**3  # 523.6


def node(*voxels: int) -> np.ndarray:
    """A patch with rods of so many voxels along x, in rows of their own that no border touches."""
    mask = np.zeros((5, 2 * len(voxels) + 1, 102), bool)
    for row, length in enumerate(voxels):
        mask[2, 2 * row + 1, 1 : length + 1] = True
    return mask


def test_a_small_node_counts_as_a_ball_and_at_most_so_often() -> None:
    weights = node_weights(node(1, 20, 100), SPACING_MM, 10.0)
    assert weights.dtype == np.float32
    assert weights[2, 1, 1] == MOST == 16.0  # its volume would give 78
    assert weights[2, 3, 1:21] == pytest.approx(BALL_MM3 / (20 * 6.75))  # 3.88
    assert weights[2, 5, 1] == 1.0  # 675 mm3 are more than the ball's
    assert set(weights[~node(1, 20, 100)]) == {1.0}


def test_a_node_that_the_border_cuts_has_no_weight() -> None:
    for axis in range(3):
        for end in (0, -1):
            mask = np.zeros((4, 5, 6), bool)
            place = [2, 2, 2]
            place[axis] = end
            mask[tuple(place)] = True
            assert (node_weights(mask, SPACING_MM, 10.0) == 1.0).all()


def test_voxels_that_touch_by_a_corner_are_one_node() -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[2, 2, 2] = mask[3, 3, 3] = True
    assert node_weights(mask, (1.0, 1.0, 1.0), 2.0)[mask] == pytest.approx(math.pi / 6.0 * 8.0 / 2.0)  # 2.09


@given(arrays(bool, (5, 6, 7)), st.floats(0.1, 40.0))
def test_no_node_counts_for_more_than_the_ball_or_less_than_itself(mask: np.ndarray, diameter_mm: float) -> None:
    weights = node_weights(mask, SPACING_MM, diameter_mm)
    assert ((weights >= 1.0) & (weights <= MOST)).all() and (weights[~mask] == 1.0).all()
    numbered, count = label(mask)
    for number in range(1, count + 1):
        of_node = weights[numbered == number]
        assert (of_node == of_node[0]).all()
        ball = math.pi / 6.0 * diameter_mm**3
        assert of_node.sum() * math.prod(SPACING_MM) <= max(ball, len(of_node) * math.prod(SPACING_MM)) * 1.0001
