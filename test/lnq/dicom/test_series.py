"""Gathering series, from headers alone: no file is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.series import series

from lnq.dicom.series import Gatherer, common_folder


def test_distance_and_length_follow_the_normal_of_tilted_slices():
    tilted = series("2", slices=4, ImageOrientationPatient=[1, 0, 0, 0, 0.8, 0.6])
    assert tilted.normal() == pytest.approx([0, -0.6, 0.8])
    assert tilted.slice_distance_mm() == pytest.approx(3.0 * 0.8)
    assert tilted.length_mm() == pytest.approx(4 * 3.0 * 0.8)


def test_without_an_orientation_nothing_is_known_of_its_length():
    unknown = series("2", ImageOrientationPatient=[0, 0, 0, 0, 0, 0])
    assert unknown.normal() is None and unknown.slice_distance_mm() == 0.0


def test_an_object_that_comes_twice_counts_once_and_folders_are_joined():
    gatherer = Gatherer()
    for sop, place in (("1", "/a/b/1"), ("2", "/a/c/2"), ("1", "/a/d/1")):
        header = series("2").header
        header.SOPInstanceUID, header.SeriesInstanceUID = sop, "2"
        gatherer.add(header, place, Path(place).parent)
    [gathered] = gatherer.all()
    assert gathered.places == ["/a/b/1", "/a/c/2"] and gathered.folder == Path("/a")


def test_a_position_that_is_no_number_is_not_kept():
    gatherer = Gatherer()
    header = series("2", ImagePositionPatient=[0, 0, np.inf]).header
    header.SOPInstanceUID, header.SeriesInstanceUID = "1", "2"
    gatherer.add(header, "1", Path("/a"))
    assert gatherer.all()[0].positions_mm == []


@pytest.mark.parametrize(
    ("one", "other", "expected"), [("/a/b", "/a/b/c", "/a/b"), ("/a/b/c", "/a/b", "/a/b"), ("/a/b", "/a/c/d", "/a")]
)
def test_the_common_folder_is_the_deepest(one: str, other: str, expected: str):
    assert common_folder(Path(one), Path(other)) == Path(expected)
