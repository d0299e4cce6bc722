from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.path import Path as Polygon

from lnq.results.outlines import outlines


def even_odd(polygon: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels whose centres an uneven number of sides lies to the left of."""
    rows, columns = np.indices(shape)
    inside = np.zeros(shape, bool)
    for (row, column), (next_row, next_column) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if row != next_row:
            at = column + (rows - row) / (next_row - row) * (next_column - column)
            inside ^= ((row <= rows) != (next_row <= rows)) & (at < columns)
    return inside


def winding(polygon: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    centres = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    return Polygon(np.vstack([polygon, polygon[:1]])).contains_points(centres).reshape(shape)


@settings(max_examples=300, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([True, True, False])))
@pytest.mark.parametrize("rule", [even_odd, winding])
def test_mask_is_the_pixels_whose_centres_lie_within_by_either_rule(rule, mask):
    count = sum((rule(polygon, mask.shape).astype(int) for polygon in outlines(mask)), np.zeros(mask.shape, int))
    np.testing.assert_array_equal(count, mask)


def test_outline_runs_half_way_to_the_pixels_outside():
    (polygon,) = outlines(np.array([[0, 0, 0, 0], [0, 1, 1, 0]], bool))
    assert {tuple(point) for point in polygon} == {(0.5, 1), (0.5, 2), (1, 2.5), (1.5, 2), (1.5, 1), (1, 0.5)}


def test_hole_is_joined_to_the_outside_by_a_channel_there_and_back():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    (polygon,) = outlines(ring)
    points = [tuple(point) for point in polygon]
    there = points.index((0.5, -0.5))
    assert points[there + 1] == (0.5, 1)
    back = points.index((0.5, 1), there + 2)
    assert (points * 2)[back + 1] == (0.5, -0.5)


def test_pieces_that_touch_at_a_corner_have_an_outline_each():
    assert len(outlines(np.eye(3, dtype=bool))) == 3


def test_empty_mask_has_no_outline():
    assert outlines(np.zeros((3, 4), bool)) == []
