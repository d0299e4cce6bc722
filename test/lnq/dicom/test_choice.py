"""Choosing one series of a study, from headers alone: no file is read."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from helpers.series import CORONAL, series

from lnq.dicom.choice import Choice, rank, select, unsuitable, why
from lnq.dicom.series import Series


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
    assert rank([better, worse])[0] is rank([worse, better])[0] is better


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
    selection = select([first, second], Choice())
    assert selection.chosen == [second]
    assert [(one.uid, str(reason)) for one, reason in selection.others] == [
        ("2.5", "series 2.4 of the same study was chosen")
    ]


def test_every_suitable_series_can_be_asked_for():
    selection = select([series("2"), series("3"), series("4", slices=3)], Choice(every=True))
    assert [one.uid for one in selection.chosen] == ["2", "3"]


def test_series_named_by_the_user_are_taken_whatever_they_are():
    selection = select([series("2", Modality="MR"), series("3")], Choice(uids=frozenset({"2"})))
    assert [one.uid for one in selection.chosen] == ["2"]
    assert [str(reason) for _, reason in selection.others] == ["it is not among the series asked for"]


def test_stacks_that_only_their_folders_tell_apart_are_both_segmented():
    one, other = series("2"), series("2")
    one.apart, other.apart = "/p1", "/p2"  # all UIDs and the patient agree: an anonymiser may have made them constant
    assert select([one, other], Choice()).chosen == [one, other]


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        ({"ConvolutionKernel": "B31f"}, {"ConvolutionKernel": "B70f"}, "the softer kernel"),
        ({"ConvolutionKernel": ["Br40d", "3"]}, {"ConvolutionKernel": "Bl57d"}, "the softer kernel"),
        ({"ConvolutionKernel": "STANDARD"}, {"ConvolutionKernel": "LUNG"}, "the softer kernel"),
        ({"ConvolutionKernel": "FC08"}, {"ConvolutionKernel": "FC52"}, "the softer kernel"),
        ({"ConvolutionKernel": "B"}, {"ConvolutionKernel": "L"}, "the softer kernel"),
        ({"SeriesDescription": "THORAX MEDIASTINUM"}, {"SeriesDescription": "THORAX LUNG"}, "the softer kernel"),
        ({"SeriesDescription": "Chest 2.0"}, {"SeriesDescription": "CT Abdomen"}, "a scan of the chest"),
        ({}, {"SeriesDescription": "CT WB 5.0 AC"}, "no attenuation scan of a PET"),
    ],
)
def test_the_series_that_suits_segmentation_is_chosen(better: dict, worse: dict, reason: str):
    good, bad = series("9", **better), series("1", **worse)
    selection = select([bad, good], Choice())
    assert (selection.chosen, selection.others) == ([good], [(bad, ANY)])
    assert why(good, bad) == reason
    assert str(selection.because(good)) == f"chosen before 1 other CT series of its study: {reason}"


def test_a_series_without_another_was_not_chosen_but_one_beside_a_map_was():
    good, sharp, projection = series("9"), series("8", ConvolutionKernel="B70f"), series("7", SeriesDescription="MIP")
    assert select([good], Choice()).because(good) is None
    selection = select([good, projection], Choice())
    assert str(selection.because(good)) == "the only one of 2 series of its study to segment"
    assert select([good, sharp, projection], Choice()).ranked == [[good, sharp]]


def test_another_part_of_the_body_never_stands_in_for_the_chest():
    chest, head = series("9", SeriesDescription="Chest"), series("8", SeriesDescription="HEAD")
    assert rank([head, chest]) == [chest]
    assert rank([head]) == [head]


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MIP"]},
        {"SeriesDescription": "MIP AX 10/3"},
        {"SeriesDescription": "Iodine map"},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VNC"]},
    ],
)
def test_projections_and_maps_are_left_out(tags: dict):
    assert str(unsuitable(series("2", **tags))) == "it is a projection or a map, as its ImageType or description says"


def test_a_whole_body_scan_does_not_beat_a_chest_by_its_length():
    chest, body = series("9", slices=100, ConvolutionKernel="B31f"), series("1", slices=400)
    assert rank([body, chest])[0] is chest
