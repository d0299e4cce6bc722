from __future__ import annotations

import numpy as np
import pytest

from lnq.image.volume import Volume, make_affine
from training.data.measures.source import measure_source

TURNED = np.eye(3)[:, [1, 2, 0]]  # z -> P, y -> S, x -> L
LPS, RAS = np.eye(3)[::-1], np.eye(3)[::-1] * [1, -1, -1]
SHAPE, SPACING_MM = (20, 40, 50), (5.0, 1.0, 1.0)


def volume(direction: np.ndarray = LPS, spacing_mm: tuple[float, float, float] = SPACING_MM, **others: bool) -> Volume:
    return Volume(np.zeros(SHAPE, np.uint8), make_affine(spacing_mm, (7.0, -3.0, 11.0), direction), **others)


def measured(label: Volume, grid: Volume | None = None):  # type: ignore[no-untyped-def]
    return measure_source(volume(), label, grid or volume())


def test_spacing_and_field_are_those_of_the_patients_axes() -> None:
    found = measure_source(volume(TURNED, (2.0, 3.0, 1.0), oriented=False), volume(), volume())
    assert found.spacing_mm == (3.0, 2.0, 1.0) and found.field_mm == (120.0, 40.0, 50.0)
    assert not found.oriented and found.short_axes_mm == ()


def test_each_component_of_each_value_is_a_node() -> None:
    label = volume()
    label.array[2:5, 10:18, 10:22] = 3
    label.array[5:8, 10:16, 10:16] = 1  # touches the first
    label.array[12:15, 20:24, 20:24] = 1
    found = measured(label)
    assert found.short_axes_mm == (6.0, 4.0, 8.0) and found.volumes_mm3 == (540.0, 240.0, 1440.0)
    assert found.slivers == ()


@pytest.mark.parametrize(
    ("slices", "side", "is_sliver"),
    [(1, 16, True), (2, 16, False), (1, 12, False), (1, 4, False)],
    ids=["wide", "two slices", "less than 2.5 slices wide", "small"],
)
def test_a_sliver_is_wide_and_one_slice_thick(slices: int, side: int, is_sliver: bool) -> None:
    label = volume()
    label.array[9 : 9 + slices, 5 : 5 + side, 8 : 10 + side] = 1
    found = measured(label).slivers
    assert len(found) == is_sliver
    if found:
        assert (found[0].thickness_mm, found[0].short_axis_mm) == (5.0, 16.0)
        assert found[0].box == ((9, 5, 8), (10, 21, 26))


@pytest.mark.parametrize("direction", [LPS, RAS, TURNED], ids=["LPS", "RAS", "coronal"])
def test_a_sliver_is_found_along_any_axis_and_placed_on_the_grid(direction: np.ndarray) -> None:
    label = volume(direction)
    label.array[9, 5:21, 8:26] = 1
    grid = Volume(np.zeros((60, 60, 60), np.uint8), make_affine((2.0, 2.0, 2.0), (-60.0, -60.0, -60.0)))
    (found,) = measured(label, grid).slivers
    assert found.thickness_mm == 5.0
    centre = (np.array(found.box[0]) + found.box[1] - 1) / 2
    wanted = label.affine @ [9, 12.5, 16.5, 1]
    there = np.clip(np.linalg.inv(grid.affine) @ wanted, 0, 59)[:3]
    np.testing.assert_allclose(centre, there, atol=1.0)


def test_a_sliver_beyond_the_grid_is_placed_at_its_border() -> None:
    label = volume()
    label.array[19, 5:21, 8:26] = 1
    grid = Volume(np.zeros((4, 40, 50), np.uint8), label.affine)
    (found,) = measured(label, grid).slivers
    assert found.box == ((3, 5, 8), (4, 21, 26))
