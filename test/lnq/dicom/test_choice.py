"""Gathering series and choosing one, from headers alone: no file is read."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from lnq.dicom.series import Choice, Gatherer, Series, choose, common_folder, select, unsuitable

AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]


def series(uid: str, slices: int = 100, distance_mm: float = 3.0, **tags: object) -> Series:
    """A series of study 1 with slices along the patient's long axis."""
    header = Dataset()
    for name, value in ({"Modality": "CT", "ImageOrientationPatient": AXIAL} | tags).items():
        setattr(header, name, value)
    positions = [(0.0, 0.0, z * distance_mm) for z in range(slices)]
    return Series(uid, "1", Path("/study"), header, places=[f"{z}.dcm" for z in range(slices)], positions_mm=positions)


def test_distance_and_length_follow_the_normal_of_tilted_slices():
    tilted = series("2", slices=4, ImageOrientationPatient=[1, 0, 0, 0, 0.8, 0.6])
    assert tilted.normal() == pytest.approx([0, -0.6, 0.8])
    assert tilted.slice_distance_mm() == pytest.approx(3.0 * 0.8)
    assert tilted.length_mm() == pytest.approx(4 * 3.0 * 0.8)


def test_without_an_orientation_nothing_is_known_of_its_length():
    unknown = series("2", ImageOrientationPatient=[0, 0, 0, 0, 0, 0])
    assert unknown.normal() is None and unknown.slice_distance_mm() == 0.0


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (series("9", slices=100), series("1", slices=89)),  # a longer scan
        (series("9", slices=95, ContrastBolusAgent="Iomeprol"), series("1", slices=100)),
        (series("9", slices=100), series("1", slices=300, distance_mm=1.0)),  # nearest to 3 mm
        (series("9", slices=60, distance_mm=5.0), series("1", slices=300, distance_mm=1.0)),  # as a factor
        (series("9", SeriesNumber="3"), series("1", SeriesNumber="11")),  # as numbers
        (series("1"), series("9")),
    ],
)
def test_the_better_series_is_chosen_in_any_order(better: Series, worse: Series):
    assert choose([better, worse]) is choose([worse, better]) is better


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (series("2"), None),
        (series("2", Modality="MR"), "it holds MR images, not a CT"),
        (series("2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "its only CT images are scout views"),
        (series("2", ImageOrientationPatient=CORONAL), "its slices are not axial"),
        (series("2", slices=9), "it has 9 slices, fewer than 10"),
        (series("2", slices=1, NumberOfFrames=80), None),
    ],
)
def test_what_is_no_axial_ct_is_left_out_with_the_reason(candidate: Series, reason: str | None):
    found = unsuitable(candidate)
    assert (None if found is None else str(found)) == reason


def test_the_series_of_a_study_that_was_not_chosen_names_the_one_that_was():
    first, second = series("2.5"), series("2.4")
    chosen, left = select([first, second], Choice())
    assert chosen == [second]
    assert [(one.uid, str(reason)) for one, reason in left] == [("2.5", "series 2.4 of the same study was chosen")]


def test_every_suitable_series_can_be_asked_for():
    assert [one.uid for one in select([series("2"), series("3"), series("4", slices=3)], Choice(every=True))[0]] == [
        "2",
        "3",
    ]


def test_series_named_by_the_user_are_taken_whatever_they_are():
    chosen, left = select([series("2", Modality="MR"), series("3")], Choice(uids=frozenset({"2"})))
    assert [one.uid for one in chosen] == ["2"]
    assert [str(reason) for _, reason in left] == ["it is not among the series asked for"]


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
