"""Chests are found again where they were moved to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.chests import NODES_MM, draw_chest, grid
from scipy import ndimage

from lnq.errors import ImageError
from lnq.followup.register import LEAST_OVERLAP, Alignment, _align_from, align, chest_of
from lnq.image.volume import Volume

POINTS_MM = np.array([*NODES_MM, (0.0, 0.0, 40.0)])


def moved(ct: Volume, matrix: np.ndarray) -> Volume:
    """The CT of the same patient after its points went to `matrix` @ (L, P, S, 1), on the same grid."""
    to_source = np.linalg.inv(ct.affine) @ np.linalg.inv(matrix) @ ct.affine
    hu = ndimage.affine_transform(
        ct.array.astype(np.float32), to_source[:3, :3], to_source[:3, 3], order=1, mode="nearest"
    )
    return ct.with_array(hu.round().astype(np.int16))


def motion(turn_degrees: float, scale_s: float, shift_mm: tuple[float, float, float]) -> np.ndarray:
    """A turn about the body's axis, a breath along it, and a shift."""
    a = np.radians(turn_degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[2, 2] = scale_s
    matrix[:3, 3] = shift_mm
    return matrix


@pytest.mark.parametrize("direction", [None, np.array([[0, 0, -1.0], [0, -1, 0], [-1, 0, 0]])], ids=["LPS", "flipped"])
@pytest.mark.parametrize("matrix", [motion(4, 1.05, (8, -5, 12)), motion(-3, 0.95, (-10, 6, -4))], ids=["in", "out"])
def test_a_turned_and_breathing_chest_is_aligned(matrix, direction):
    ct, _ = draw_chest(grid(direction), 1)
    found = align(chest_of(ct, "a"), chest_of(moved(ct, matrix), "b"))
    wanted = POINTS_MM @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.linalg.norm(found.apply(POINTS_MM) - wanted, axis=1).max() < 2.0
    assert found.overlap > 0.9


def test_an_oblique_ct_is_aligned_with_an_upright_one():
    a = np.radians(15)
    oblique = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])[:, ::-1]
    upright, turned = draw_chest(grid(), 1)[0], draw_chest(grid(oblique), 1)[0]
    found = align(chest_of(upright, "a"), chest_of(turned, "b"))
    assert np.linalg.norm(found.apply(POINTS_MM) - POINTS_MM, axis=1).max() < 2.0


def test_a_carina_that_is_something_else_leads_nowhere_and_is_left_out():
    ct, _ = draw_chest(grid(), 1)
    matrix = motion(3, 1.0, (6, -4, 8))
    earlier, later = chest_of(ct, "a"), chest_of(moved(ct, matrix), "b")
    wrong = replace(earlier, carina_lps_mm=(40.0, 60.0, -60.0)), replace(later, carina_lps_mm=(0.0, 10.0, 50.0))
    assert _align_from(*wrong).overlap < LEAST_OVERLAP
    found = align(*wrong)
    wanted = POINTS_MM @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.linalg.norm(found.apply(POINTS_MM) - wanted, axis=1).max() < 2.0


def test_carinas_far_beyond_both_cts_do_not_stop_it():
    chest = chest_of(draw_chest(grid(), 1)[0], "a")
    far = replace(chest, carina_lps_mm=(5000.0, 0.0, 0.0)), replace(chest, carina_lps_mm=(-5000.0, 0.0, 0.0))
    assert np.linalg.norm(align(*far).apply(POINTS_MM) - POINTS_MM, axis=1).max() < 1.0


def test_the_same_chests_give_the_same_alignment():
    ct, _ = draw_chest(grid(), 1)
    pair = chest_of(ct, "a"), chest_of(moved(ct, motion(2, 1.0, (3, 0, 0))), "b")
    assert np.array_equal(align(*pair).matrix, align(*pair).matrix)


def test_points_are_moved_by_the_matrix():
    matrix = np.diag([2.0, 1.0, 1.0, 1.0])
    matrix[:3, 3] = (1, 2, 3)
    assert Alignment(matrix, 1.0).apply(np.array([[1.0, 1.0, 1.0]])).tolist() == [[3.0, 3.0, 4.0]]


def test_an_image_without_lungs_is_refused():
    ct, _ = draw_chest(grid(), 1)
    with pytest.raises(ImageError, match="^ct.mha cannot be compared: no lungs were found in it$"):
        chest_of(ct.with_array(np.full_like(ct.array, 40)), "ct.mha")
