"""NIfTI files that ITK reads with a geometry of its own invention."""

import struct
from pathlib import Path

import numpy as np
import pytest

from lnq.errors import ImageError
from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume


def with_fields(path: Path, volume: Volume, *fields: tuple[str, int, float]) -> Path:
    """A NIfTI file with fields of its header replaced: format, offset and value."""
    write_volume(volume, path, compress=False)
    data = bytearray(path.read_bytes())
    for kind, offset, value in fields:
        struct.pack_into(f"<{kind}", data, offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [0.0, -5.0, float("nan"), float("inf")])
def test_a_spacing_that_is_none_is_refused(tmp_path, thorax, size):
    with pytest.raises(ImageError, match="its voxel spacing is zero, negative or not a number"):
        read_volume(with_fields(tmp_path / "ct.nii", thorax, ("f", 80, size)))


def test_values_scaled_by_infinity_are_refused(tmp_path, thorax):
    with pytest.raises(ImageError, match="its voxel values are scaled by infinity"):
        read_volume(with_fields(tmp_path / "ct.nii", thorax, ("f", 112, float("inf"))))


def test_a_scale_of_nan_does_not_scale(tmp_path, thorax):
    volume = read_volume(with_fields(tmp_path / "ct.nii", thorax, ("f", 112, float("nan"))))
    np.testing.assert_array_equal(volume.array, thorax.array)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([("f", 80, 4.0)], "its header gives two voxel spacings that differ"),
        ([("f", 256, float("nan"))], "its orientation matrix is not a rotation"),  # a quaternion
        ([("f", 256, 5.0)], "its orientation matrix is not a rotation"),
        ([("f", 108, 0.0)], "its header says that its voxels begin at byte 0"),
        ([("f", 108, float("nan"))], "its header says that its voxels begin at byte nan"),
        ([("f", 108, 354.0)], "it is truncated: 344,416 of 344,418 bytes are there"),
        ([("f", 108, 350.0)], "it holds more than the 344,414 bytes that its header claims"),
        ([("h", 40, 0)], "its header gives no size"),
        ([("h", 42, -64)], "its header gives no size"),
        (
            [("h", 42, 32767), ("h", 44, 32767), ("h", 46, 32767)],
            "it is truncated: 344,416 of 70,362,301,923,678 bytes",
        ),
        ([("h", 70, 3)], "its voxels are of type 3, which is not known"),
        ([("h", 70, 16)], "it is truncated: 344,416 of 688,480 bytes are there"),  # bits per voxel left as they were
        ([("i", 344, 0x0031696E)], "it is not a medical image, or its format is not known"),  # voxels elsewhere
        ([("i", 0, 540)], "it is not a medical image, or its format is not known"),
    ],
)
def test_header_that_contradicts_itself_or_the_file_is_refused(tmp_path, thorax, fields, problem):
    with pytest.raises(ImageError, match=f"^ct.nii cannot be read: {problem}"):
        read_volume(with_fields(tmp_path / "ct.nii", thorax, *fields))


def test_a_fourth_dimension_of_one_is_none(tmp_path, thorax):
    path = with_fields(tmp_path / "ct.nii", thorax, ("h", 40, 4), ("h", 48, 1))
    assert read_volume(path).shape == thorax.shape
