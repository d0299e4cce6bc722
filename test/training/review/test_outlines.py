"""Outlines of decisions, against balls worked out by hand, in flipped and oblique grids."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.reviews import bump
from scipy.spatial.transform import Rotation

from lnq.image.volume import Volume, make_affine
from training.review.outlines import (
    REACH_MM,
    ball,
    grown,
    grown_from_point,
    grown_from_start,
    index_of,
)

PLACE_MM = (3.0, -4.0, 20.0)
GRIDS = [
    make_affine((2.0, 1.5, 1.0), (-40.0, -40.0, -10.0)),
    make_affine((2.0, 1.5, 1.0), (40.0, -40.0, -10.0), np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0.0]])),
    make_affine(
        (2.0, 1.5, 1.0),
        (-30.0, -40.0, -20.0),
        Rotation.from_euler("xyz", (10, -7, 12), degrees=True).as_matrix()[:, ::-1],
    ),
]


@pytest.fixture(params=range(len(GRIDS)))
def grid(request: pytest.FixtureRequest) -> Volume:
    return Volume(np.zeros((40, 55, 80), np.float32), GRIDS[request.param])


def whole(grid: Volume, outlined) -> np.ndarray:
    mask = np.zeros(grid.shape, bool)
    mask[outlined.box] = outlined.mask
    return mask


def test_a_ball_has_its_volume_and_its_middle(grid: Volume) -> None:
    mask = whole(grid, ball(grid, PLACE_MM, 8.0))
    assert mask.sum() * grid.voxel_volume_mm3 == pytest.approx(4 / 3 * math.pi * 8**3, rel=0.03)
    middle = grid.affine[:3] @ [*np.argwhere(mask).mean(axis=0), 1.0]
    np.testing.assert_allclose(middle, PLACE_MM, atol=0.3)
    assert whole(grid, ball(grid, PLACE_MM, 0.1)).sum() == 1


def test_growing_at_a_lower_threshold_gives_the_larger_ball(grid: Volume) -> None:
    probability = grid.with_array(bump(grid, PLACE_MM, 8.0))  # 1 - distance / 16 mm
    for threshold, radius in ((0.5, 8.0), (0.25, 12.0), (0.75, 4.0)):
        mask = whole(grid, grown_from_point(probability, PLACE_MM, threshold))
        np.testing.assert_array_equal(mask, probability.array >= threshold)
        assert mask.sum() * grid.voxel_volume_mm3 == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.1)


def test_growing_takes_one_component_within_reach() -> None:
    grid = Volume(np.zeros((10, 10, 120), np.float32), make_affine((1.0, 1.0, 1.0)))
    grid.array[5, 5, 2:] = 0.9
    grid.array[5, 5, 20] = 0.1  # a gap
    grid.array[8, 8, 8] = 0.9
    assert np.argwhere(whole(grid, grown(grid, (5, 5, 5), 0.5)))[:, 2].tolist() == list(range(2, 20))
    reached = np.argwhere(whole(grid, grown(grid, (5, 5, 60), 0.5)))[:, 2]
    assert (reached.min(), reached.max()) == (60 - REACH_MM, 60 + REACH_MM)
    assert grown(grid, (5, 5, 20), 0.5).empty


def test_a_candidate_grows_from_its_start() -> None:
    grid = Volume(np.zeros((1, 1, 9), np.float32), make_affine((1.0, 1.0, 1.0)))
    grid.array[0, 0] = [0.3, 0.6, 0.9, 0.6, 0.1, 0.6, 0.8, 0.6, 0.3]
    for start, threshold, wanted in (
        (2, 0.7, [2]), (2, 0.2, [0, 1, 2, 3]), (6, 0.2, [5, 6, 7, 8]), (6, 0.95, [6]), (2, 0.05, list(range(9))),
    ):  # fmt: skip
        outlined = grown_from_start(grid, (float(start), 0.0, 0.0), threshold)
        assert np.argwhere(whole(grid, outlined))[:, 2].tolist() == wanted


def test_a_point_beside_a_node_finds_it_within_three_millimetres() -> None:
    grid = Volume(np.zeros((1, 1, 30), np.float32), make_affine((1.0, 1.0, 0.5)))
    grid.array[0, 0, 14:17] = [0.4, 0.8, 0.4]
    for index in (15, 9, 8):  # 8 + 6 voxels reach the first one
        outlined = grown_from_point(grid, (0.5 * index, 0.0, 0.0), 0.3)
        assert np.argwhere(whole(grid, outlined))[:, 2].tolist() == [14, 15, 16]
    assert grown_from_point(grid, (3.5, 0.0, 0.0), 0.3).empty


def test_a_point_outside_is_refused(grid: Volume) -> None:
    assert index_of(grid, tuple(grid.affine[:3] @ [3.2, 4.4, 5.0, 1.0])) == (3, 4, 5)
    with pytest.raises(ValueError, match=r"^The point 500, 0, 0 mm \(L, P, S\) lies outside the CT$"):
        ball(grid, (500.0, 0.0, 0.0), 5.0)
