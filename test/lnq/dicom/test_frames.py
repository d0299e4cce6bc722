"""The frames of a multi-frame object as slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_slices import enhanced, slice_dataset

from lnq.dicom.frames import frames_of
from lnq.dicom.header import SliceFile
from lnq.dicom.read import read_dicom_files
from lnq.errors import ImageError

STORED = np.arange(48).reshape(4, 3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    enhanced(STORED, [2, 0, 3, 1]).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    return tmp_path / "a.dcm"


def test_each_frame_has_its_own_and_the_shared_values(path: Path) -> None:
    frames = frames_of(SliceFile.read(path))
    assert [one.frame for one in frames] == [0, 1, 2, 3]
    assert [float(one.header.ImagePositionPatient[2]) for one in frames] == [6, 0, 9, 3]
    assert [float(one.header.RescaleIntercept) for one in frames] == [-1002, -1000, -1003, -1001]
    assert {tuple(map(float, one.header.PixelSpacing)) for one in frames} == {(2.0, 1.0)}
    assert {one.header.SliceThickness for one in frames} == {3}


def test_frames_are_put_in_the_order_in_which_they_lie(path: Path) -> None:
    read = read_dicom_files([path], "a")
    wanted = STORED * 2 - 1000 - np.arange(4)[:, None, None]
    np.testing.assert_array_equal(read.volume.array, wanted)
    np.testing.assert_allclose(read.volume.affine, [[0, 0, 1, 0], [0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]], atol=1e-9)


def test_a_slice_is_its_own_frame(tmp_path: Path) -> None:
    slice_dataset(STORED[0], (0, 0, 0)).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    file = SliceFile.read(tmp_path / "a.dcm")
    assert frames_of(file) == [file]


def test_an_object_that_does_not_describe_all_frames_is_refused(tmp_path: Path) -> None:
    dataset = enhanced(STORED, [0, 1, 2, 3])
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(ImageError, match=r"^its multi-frame file a\.dcm does not describe each of its 4 frames$"):
        frames_of(SliceFile.read(tmp_path / "a.dcm"))
