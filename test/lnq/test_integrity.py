"""Files that end the program within ITK, or that ITK reads with a geometry of its own invention."""

import os
import re
import struct

import pytest

from lnq.cases import stem
from lnq.dicom import read_dicom_series
from lnq.volume import ImageError, read_volume, write_volume


def test_more_dimensions_than_itk_can_hold_are_refused(tmp_path, thorax):
    path = tmp_path / "ct.mha"
    write_volume(thorax, path, compress=False)
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", b"NDims = 99999"))
    with pytest.raises(ImageError, match="its header claims 99999 dimensions"):
        read_volume(path)


@pytest.mark.parametrize("size", [0.0, float("nan"), float("inf")])
def test_nifti_without_a_spacing_is_refused(tmp_path, thorax, size):
    path = tmp_path / "ct.nii"
    write_volume(thorax, path, compress=False)
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 80, size)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="its voxel spacing is zero or not a number"):
        read_volume(path)


@pytest.mark.parametrize("slope", [float("nan"), float("inf")])
def test_nifti_with_a_scale_that_is_no_number_is_refused(tmp_path, thorax, slope):
    path = tmp_path / "ct.nii"
    write_volume(thorax, path, compress=False)
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 112, slope)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="its scaling of voxel values is no number"):
        read_volume(path)


def test_nrrd_whose_directions_are_none_is_refused(tmp_path, thorax):
    path = tmp_path / "ct.nrrd"
    write_volume(thorax, path, compress=False)
    data = re.sub(rb"space directions: .*\n", b"space directions: none none none\n", path.read_bytes()[:1000])
    path.write_bytes(data + path.read_bytes()[1000:])
    with pytest.raises(ImageError, match="its header gives no voxel spacing"):
        read_volume(path)


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
