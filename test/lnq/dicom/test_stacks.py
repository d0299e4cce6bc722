"""Stacks that share a series UID, and slices that have one each."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.series import series

from lnq.dicom.header import OF_STACK
from lnq.dicom.stacks import Instance, merge_single, split_stacks


def instance(z: int, number: int = 0, folder: str = "/a", **marks: str) -> Instance:
    values = tuple(marks.get(tag, "") for tag in OF_STACK)
    return Instance(f"{folder}/{number}-{z}", Path(folder), "", (0.0, 0.0, float(z)), values, number)


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "ConvolutionKernel", "ImageType", "AcquisitionTime"])
def test_stacks_are_told_apart_by_a_tag(tag: str) -> None:
    mixed = [instance(z, **{tag: value}) for z in range(12) for value in ("1", "2")]
    (one, other), by_folder = split_stacks(mixed)
    assert one == mixed[::2] and other == mixed[1::2] and not by_folder


def test_stacks_are_told_apart_by_their_folders() -> None:
    mixed = [instance(z, folder=folder) for z in range(12) for folder in ("/a", "/b")]
    stacks, by_folder = split_stacks(mixed)
    assert by_folder
    assert [{one.folder for one in stack} for stack in stacks] == [{Path("/a")}, {Path("/b")}]


def test_stacks_are_told_apart_by_their_numbers() -> None:
    mixed = [instance(z, number=100 * phase + z) for z in range(12) for phase in (0, 1)]
    assert [[one.number for one in stack] for stack in split_stacks(mixed)[0]] == [[*range(12)], [*range(100, 112)]]


def test_a_tag_that_differs_within_one_stack_does_not_split_it() -> None:
    whole = [instance(z, AcquisitionTime=str(z)) for z in range(12)]
    assert split_stacks(whole) == ([whole], False)


def test_what_cannot_be_told_apart_stays_one() -> None:
    mixed = [instance(z) for z in range(12) for _ in range(2)]
    assert split_stacks(mixed) == ([mixed], False)


def test_slices_with_a_series_uid_each_are_joined() -> None:
    singles = [series(f"1.{z}", slices=1) for z in range(12)]
    for z, one in enumerate(singles):
        one.places = [f"{z}.dcm"]
    (joined,) = merge_single(singles)
    assert joined.places == [f"{z}.dcm" for z in range(12)] and joined.uid == "1.0"


def test_a_few_single_slices_are_not_joined() -> None:
    singles = [series(f"1.{z}", slices=1) for z in range(3)]
    assert merge_single(singles) == singles
