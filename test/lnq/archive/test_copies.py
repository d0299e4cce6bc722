"""Which objects are copies of each other."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_slices import slice_dataset

from lnq.archive.copies import same_pixels
from lnq.dicom.stacks import Instance

IMAGE = np.arange(12).reshape(3, 4)


def instance(path: Path, archive: str = "") -> Instance:
    return Instance(path.name if archive else str(path), path.parent, archive, (0.0, 0.0, 0.0), (), 1)


@pytest.mark.parametrize(
    ("image", "tags", "same"),
    [(IMAGE, {}, True), (IMAGE, {"SeriesDescription": "sent again"}, True), (IMAGE + 1, {}, False)],
)
def test_copies_have_the_same_pixels(tmp_path: Path, image: np.ndarray, tags: dict, same: bool) -> None:
    slice_dataset(IMAGE, (0, 0, 0)).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    slice_dataset(image, (0, 0, 0), **tags).save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert same_pixels(instance(tmp_path / "a.dcm"), instance(tmp_path / "b.dcm")) == same


def test_a_damaged_file_is_no_copy(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    assert not same_pixels(instance(tmp_path / "a"), instance(tmp_path / "b"))


def test_members_of_an_archive_are_compared_by_their_checksums(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in (("a", "x"), ("b", "x"), ("c", "y")):
            packed.writestr(name, data)
    a, b, c = (instance(tmp_path / name, str(archive)) for name in "abc")
    assert same_pixels(a, b) and not same_pixels(a, c)
