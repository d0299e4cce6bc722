"""Files whose names, formats or contents do not fit together."""

import gzip
import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from lnq.dicom.read import read_dicom_series
from lnq.errors import Damaged, ImageError
from lnq.image.headers.integrity import read_layout, read_voxels
from lnq.image.itk import read_volume, write_volume
from lnq.image.names import stem
from lnq.image.volume import Volume


@pytest.mark.parametrize(("name", "other"), [("ct.mha", "ct.nii"), ("ct.nii", "ct.nrrd"), ("ct.nrrd", "ct.mha")])
def test_a_file_of_another_format_than_its_name_says_is_refused(tmp_path, thorax, name, other):
    write_volume(thorax, tmp_path / name)
    (tmp_path / name).rename(tmp_path / other)
    with pytest.raises(ImageError, match="it is not a medical image, or its format is not known"):
        read_volume(tmp_path / other)


@pytest.mark.parametrize("name", ["ct.mha", "ct.nii", "ct.nrrd", "ct.dcm", "ct"])
def test_a_dicom_file_is_no_image_file(tmp_path, thorax, write_dicom, name):
    path = next(write_dicom(thorax, tmp_path / "series").iterdir()).rename(tmp_path / name)
    with pytest.raises(ImageError, match="it is not a medical image, or its format is not known"):
        read_volume(path)


def bomb(volume: Volume, path: Path) -> None:
    """A file of half a MB that unpacks to 512 MB."""
    write_volume(volume, path)
    data = path.read_bytes()
    if path.suffix == ".mha":
        head, voxels = data.split(b"LOCAL\n")
        packed = zlib.compress(bytes(2**29))
        head = head.replace(f"CompressedDataSize = {len(voxels)}".encode(), b"CompressedDataSize = %d" % len(packed))
        path.write_bytes(head + b"LOCAL\n" + packed)
    else:
        head = data.partition(b"\n\n")[0] + b"\n\n" if path.suffix == ".nrrd" else data
        path.write_bytes(head + gzip.compress(bytes(2**24)) * 32)


@pytest.mark.parametrize("name", ["ct.mha", "ct.nrrd", "ct.nii.gz"])
def test_voxels_that_unpack_to_more_than_claimed_take_no_memory(tmp_path, thorax, name):
    bomb(thorax, tmp_path / name)
    tracemalloc.start()
    with pytest.raises(Damaged, match="^it holds more than the 344,... bytes that its header claims$"):
        read_voxels(read_layout(tmp_path / name))
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


def test_nothing_may_follow_compressed_voxels(tmp_path, thorax):
    path = tmp_path / "ct.mha"
    write_volume(thorax, path)
    head, voxels = path.read_bytes().split(b"LOCAL\n", 1)
    size = f"CompressedDataSize = {len(voxels)}".encode()
    path.write_bytes(
        head.replace(size, b"CompressedDataSize = %d" % (len(voxels) + 4)) + b"LOCAL\n" + voxels + bytes(4)
    )
    with pytest.raises(ImageError, match="something follows its compressed voxels"):
        read_volume(path)


def test_a_file_name_in_no_encoding_is_refused(tmp_path, thorax):
    write_volume(thorax, tmp_path / "ct.mha")
    path = (tmp_path / "ct.mha").rename(tmp_path / os.fsdecode(b"caf\xe9.mha"))
    with pytest.raises(ImageError, match="its path is not valid UTF-8"):
        read_volume(path)


def test_a_dicom_folder_in_no_encoding_is_refused(tmp_path, thorax, write_dicom):
    with pytest.raises(ImageError, match="its path is not valid UTF-8"):
        read_dicom_series(write_dicom(thorax, tmp_path / os.fsdecode(b"caf\xe9")))


def test_a_long_path_is_read(tmp_path, thorax):
    folder = tmp_path.joinpath(*["x" * 200] * 5)
    folder.mkdir(parents=True)
    write_volume(thorax, folder / "ct.nrrd")
    assert read_volume(folder / "ct.nrrd").shape == thorax.shape


def test_the_file_that_is_named_is_read(tmp_path, thorax):
    """ITK reads A.nii for both."""
    other = thorax.with_array(thorax.array + 1)
    write_volume(thorax, tmp_path / "A.nii")
    write_volume(other, tmp_path / "A.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "A.nii").array, thorax.array)
    np.testing.assert_array_equal(read_volume(tmp_path / "A.nii.gz").array, other.array)


@pytest.mark.parametrize("name", ["CT.NII.GZ", "Ct.Nii.Gz", "ct.MHA", "ct.Nrrd"])
def test_extensions_may_have_any_case(tmp_path, thorax, name):
    write_volume(thorax, tmp_path / name.lower())
    path = (tmp_path / name.lower()).rename(tmp_path / name)
    np.testing.assert_array_equal(read_volume(path).array, thorax.array)


@pytest.mark.parametrize(("real", "called"), [("ct.nii.gz", "ct.nii"), ("ct.nii", "ct.nii.gz")])
def test_what_is_packed_is_told_by_its_content(tmp_path, thorax, real, called):
    write_volume(thorax, tmp_path / real)
    path = (tmp_path / real).rename(tmp_path / called)
    np.testing.assert_array_equal(read_volume(path).array, thorax.array)


@pytest.mark.parametrize("name", ["..mha", "...mha", ".mha"])
def test_a_name_of_dots_leads_to_no_other_folder(tmp_path, name):
    assert stem(tmp_path / name) == name


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.mha", "ct.nrrd", "ct.hdr"])
def test_an_empty_file_is_called_so(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ImageError, match=f"^{name} cannot be read: it is empty$"):
        read_volume(tmp_path / name)
