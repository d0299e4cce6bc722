"""Stacks of slices on upright grids: places and values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_slices import upwards, write_slices
from pydicom import Dataset

from lnq.dicom.read import CtSeries, read_dicom_files
from lnq.errors import ImageError
from lnq.image.volume import Volume

ROWS, COLUMNS = 30, 6


def read(folder: Path, heights: list[float], **tags: object) -> CtSeries:
    """Slices at these heights (mm), whose pixels hold their number."""

    def edit(dataset: Dataset, _: int) -> None:
        for name, value in tags.items():
            setattr(dataset, name, value)

    stored = np.broadcast_to(np.arange(len(heights))[:, None, None] * 10 + 1000, (len(heights), ROWS, COLUMNS))
    return read_dicom_files(write_slices(folder, stored, [(0, 0, h) for h in heights], edit), "it")


def tilted(folder: Path, degrees: float, count: int = 40) -> CtSeries:
    """Slices that a tilted gantry takes of an object whose HU are 2 z + y, in mm; the table moves along z by 3 mm."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    rows = np.arange(ROWS) * 2.0
    y, drop = rows * cosine, rows * sine
    stored = np.stack([2 * (3.0 * k - drop) + y + 1024 for k in range(count)])
    images = np.broadcast_to(np.rint(stored)[:, :, None], (count, ROWS, COLUMNS))

    def edit(dataset: Dataset, _: int) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, f"{cosine:.12f}", f"{-sine:.12f}"]

    return read_dicom_files(write_slices(folder, images, upwards(count), edit), "it")


@pytest.mark.parametrize("degrees", [12.0, -20.0, 1.0])
def test_a_tilted_stack_is_sheared_upright(tmp_path: Path, degrees: float) -> None:
    series = tilted(tmp_path, degrees)
    volume = series.volume
    cosine = np.cos(np.radians(degrees))
    np.testing.assert_allclose(volume.affine[:3, :3], [[0, 0, 1], [0, 2 * cosine, 0], [3, 0, 0]], atol=1e-6)
    z, y = 20, ROWS // 3
    place = volume.affine @ [z, y, 0, 1]
    assert volume.array[z, y, 0] == pytest.approx(2 * place[2] + place[1], abs=1)
    inner = volume.array[15:-15]
    places = np.einsum(
        "ij,jzyx->izyx", volume.affine, np.concatenate([np.indices(volume.shape), np.ones((1, *volume.shape))])
    )
    np.testing.assert_allclose(inner, (2 * places[2] + places[1])[15:-15], atol=1)
    assert volume.warnings == (
        f"The gantry was tilted by {abs(degrees):.1f} degrees: the slices were sheared onto an upright grid.",
    )


def test_labels_come_back_onto_tilted_slices(tmp_path: Path) -> None:
    series = tilted(tmp_path, 15.0)
    volume, stack = series.volume, series.stack
    places = np.einsum(
        "ij,jzyx->izyx", volume.affine, np.concatenate([np.indices(volume.shape), np.ones((1, *volume.shape))])
    )
    ball = Volume(((places[1] - 28) ** 2 + (places[2] - 60) ** 2 < 10**2).astype(np.int16), volume.affine)
    back = stack.on_slices(ball)
    assert back.shape == (40, ROWS, COLUMNS)
    own = np.einsum("ij,jzyx->izyx", back.affine, np.concatenate([np.indices(back.shape), np.ones((1, *back.shape))]))
    wanted = (own[1] - 28) ** 2 + (own[2] - 60) ** 2 < 10**2
    assert 2 * (wanted & (back.array > 0)).sum() / (wanted.sum() + (back.array > 0).sum()) > 0.9


def test_a_single_missing_slice_is_filled_in(tmp_path: Path) -> None:
    series = read(tmp_path, [3.0 * z for z in range(20) if z != 7])
    np.testing.assert_array_equal(series.volume.array[:, 0, 0], [*range(-24, 46, 10), 41, *range(46, 166, 10)])
    assert series.volume.warnings == (
        "1 slice is missing, after slice 7 from below: filled in between the neighbours.",
    )
    labels = series.volume.with_array(np.broadcast_to(np.arange(20)[:, None, None], series.volume.shape))
    np.testing.assert_array_equal(series.stack.on_slices(labels).array[:, 0, 0], [z for z in range(20) if z != 7])


@pytest.mark.parametrize(
    ("lost", "distance"),
    [((5, 6, 7), 1.0), ((5,), 6.0), ((3, 6, 9, 12), 1.0)],
    ids=["three in a row", "a gap of 12 mm", "every third"],
)
def test_more_missing_slices_are_refused(tmp_path: Path, lost: tuple[int, ...], distance: float) -> None:
    with pytest.raises(ImageError, match=r"^it cannot be used: slices are missing: the gaps are "):
        read(tmp_path, [distance * z for z in range(20) if z not in lost])


def test_rounded_positions_are_those_of_the_best_fit(tmp_path: Path) -> None:
    exact = [0.625 * z for z in range(80)]
    affine = read(tmp_path, [round(h, 1) for h in exact]).volume.affine
    assert affine[2, 0] == pytest.approx(0.625, abs=1e-3)
    assert affine[2, 3] == pytest.approx(0.0, abs=0.02)


def test_spacings_that_differ_by_their_rounding_are_one(tmp_path: Path) -> None:
    def edit(dataset: Dataset, number: int) -> None:
        dataset.PixelSpacing = ["0.78125", "0.781250"] if number % 2 else ["0.7813", "0.7813"]

    series = read_dicom_files(write_slices(tmp_path, np.zeros((12, 4, 4)), upwards(12), edit), "it")
    assert series.volume.spacing_mm == pytest.approx((3, 0.7813, 0.7813), abs=1e-4)


def test_a_slice_that_is_stored_twice_is_read_once(tmp_path: Path) -> None:
    stored = np.arange(12)[:, None, None] * np.ones((12, 4, 4))
    twice = [*range(12), 5]
    paths = write_slices(tmp_path, stored[twice], [upwards(12)[z] for z in twice])
    series = read_dicom_files(paths, "it")
    np.testing.assert_array_equal(series.volume.array[:, 0, 0], np.arange(12) - 1024)
    assert series.volume.warnings == ("1 slice is stored twice: each was read once.",)


def test_two_slices_at_one_position_are_refused(tmp_path: Path) -> None:
    paths = write_slices(tmp_path, np.arange(3)[:, None, None] * np.ones((3, 4, 4)), [(0, 0, z) for z in (0, 3, 3)])
    with pytest.raises(ImageError, match="^it cannot be used: it has two slices at the same position$"):
        read_dicom_files(paths, "it")


def test_slices_shifted_against_each_other_are_refused(tmp_path: Path) -> None:
    positions = [(0, 5.0 * (z == 4), 3.0 * z) for z in range(8)]
    with pytest.raises(ImageError, match="^it cannot be used: its slices are shifted against each other$"):
        read_dicom_files(write_slices(tmp_path, np.zeros((8, 4, 4)), positions), "it")
