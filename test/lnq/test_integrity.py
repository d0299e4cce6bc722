"""Files that end the program within ITK, or that ITK reads with a geometry of its own invention."""

import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from lnq.cases import stem
from lnq.dicom import read_dicom_series
from lnq.integrity import damage
from lnq.volume import ImageError, Volume, read_volume, write_volume


def replace_line(path: Path, old: str, new: str) -> None:
    """Replace a line of an uncompressed file's header."""
    data = path.read_bytes()
    path.write_bytes(re.sub(rf"^{old}$".encode(), new.encode(), data[:1000], flags=re.MULTILINE) + data[1000:])


def test_more_dimensions_than_itk_can_hold_are_refused(tmp_path, thorax):
    path = tmp_path / "ct.mha"
    write_volume(thorax, path, compress=False)
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", b"NDims = 99999"))
    with pytest.raises(ImageError, match="its header claims 99999 dimensions"):
        read_volume(path)


def nifti_with(path: Path, volume: Volume, offset: int, value: float) -> Path:
    """A NIfTI file with a float of its header replaced."""
    write_volume(volume, path, compress=False)
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [0.0, float("nan"), float("inf")])
def test_nifti_without_a_spacing_is_refused(tmp_path, thorax, size):
    with pytest.raises(ImageError, match="its voxel spacing is zero or not a number"):
        read_volume(nifti_with(tmp_path / "ct.nii", thorax, 80, size))


def test_nifti_scaled_by_infinity_is_refused(tmp_path, thorax):
    with pytest.raises(ImageError, match="its voxel values are scaled by infinity"):
        read_volume(nifti_with(tmp_path / "ct.nii", thorax, 112, float("inf")))


def test_nifti_whose_scale_is_nan_is_not_scaled(tmp_path, thorax):
    volume = read_volume(nifti_with(tmp_path / "ct.nii", thorax, 112, float("nan")))
    np.testing.assert_array_equal(volume.array, thorax.array)


@pytest.mark.parametrize("directions", ["none none none", "(5, 0, 0) none none", "(5,0,0) (0,nan,0) (0,0,5)"])
def test_nrrd_with_an_axis_without_spacing_is_refused(tmp_path, thorax, directions):
    path = tmp_path / "ct.nrrd"
    write_volume(thorax, path, compress=False)
    replace_line(path, "space directions: .*", f"space directions: {directions}")
    with pytest.raises(ImageError, match="its header gives no voxel spacing"):
        read_volume(path)


@pytest.mark.parametrize("directions", ["(5,0,0)(0,5,0)(0,0,5)", "(5, 0, 0) (0, 5, 0) (0, 0, 5)"])
def test_nrrd_vectors_may_hold_blanks_or_have_none_between_them(tmp_path, thorax, directions):
    path = tmp_path / "ct.nrrd"
    write_volume(thorax, path, compress=False)
    replace_line(path, "space directions: .*", f"space directions: {directions}")
    assert damage(path) is None


@pytest.mark.parametrize("line", ["\nElementSpacing = 5 5 5", "ElementSpacing: 5 5 5", "ElementSize = 5 5 5"])
def test_metaimage_may_give_its_spacing_in_several_ways(tmp_path, thorax, line):
    path = tmp_path / "ct.mha"
    write_volume(thorax, path, compress=False)
    replace_line(path, "ElementSpacing = .*", line)
    assert read_volume(path).spacing_mm == (5.0, 5.0, 5.0)


def test_nrrd_with_spacings_alone_is_read(tmp_path, thorax):
    path = tmp_path / "ct.nrrd"
    write_volume(thorax, path, compress=False)
    head, voxels = path.read_bytes().split(b"\n\n", 1)
    head = re.sub(rb"space directions: .*", b"spacings: 1.5 2 2.5", head)
    head = re.sub(rb"space( origin)?: .*\n", b"", head + b"\n")
    path.write_bytes(head + b"\n" + voxels)
    assert read_volume(path).spacing_mm == (2.5, 2.0, 1.5)


def test_a_file_name_in_no_encoding_is_refused(tmp_path, thorax):
    write_volume(thorax, tmp_path / "ct.mha")
    path = (tmp_path / "ct.mha").rename(tmp_path / os.fsdecode(b"caf\xe9.mha"))
    with pytest.raises(ImageError, match="its path is not valid UTF-8"):
        read_volume(path)


def test_a_dicom_folder_in_no_encoding_is_refused(tmp_path, thorax, write_dicom):
    with pytest.raises(ImageError, match="its path is not valid UTF-8"):
        read_dicom_series(write_dicom(thorax, tmp_path / os.fsdecode(b"caf\xe9")))


@pytest.mark.parametrize("name", ["..mha", "...mha", ".mha"])
def test_a_name_of_dots_leads_to_no_other_folder(tmp_path, name):
    assert stem(tmp_path / name) == name
