"""MetaImage files, sound ones and those that leave something open."""

import os
from pathlib import Path

import numpy as np
import pytest

from lnq.errors import ImageError
from lnq.image.headers.integrity import read_layout
from lnq.image.itk import read_volume, to_sitk, write_volume
from lnq.image.volume import Volume


@pytest.fixture
def path(tmp_path: Path, thorax: Volume) -> Path:
    """An uncompressed file."""
    write_volume(thorax, tmp_path / "ct.mha", compress=False)
    return tmp_path / "ct.mha"


@pytest.fixture
def pair(tmp_path: Path, thorax: Volume) -> Path:
    """A header whose voxels lie in ct.raw beside it."""
    import SimpleITK as sitk

    sitk.WriteImage(to_sitk(thorax), str(tmp_path / "ct.mhd"))
    return tmp_path / "ct.mhd"


def replace(path: Path, old: str, new: str) -> Path:
    data = path.read_bytes()
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode(), 1))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as error:
        read_volume(path)
    return str(error.value).removeprefix(f"{path.name} cannot be read: ")


@pytest.mark.parametrize("line", ["\nElementSpacing = 5 5 5", "ElementSpacing: 5 5 5", "ElementSize = 5 5 5"])
def test_spacing_may_be_given_in_several_ways(path, line):
    assert read_volume(replace(path, "ElementSpacing = 5 5 5", line)).spacing_mm == (5.0, 5.0, 5.0)


def test_header_of_its_own_is_read_with_its_voxels(pair, thorax):
    np.testing.assert_array_equal(read_volume(pair).array, thorax.array)


def test_a_part_of_the_voxel_file_may_be_skipped(pair, thorax):
    voxels = pair.with_suffix(".raw")
    voxels.write_bytes(bytes(512) + voxels.read_bytes())
    assert refusal(pair) == "it holds more than the 344,064 bytes that its header claims"
    replace(pair, "NDims", "HeaderSize = 512\nNDims")
    np.testing.assert_array_equal(read_volume(pair).array, thorax.array)


def test_the_last_line_needs_no_break(pair):
    pair.write_bytes(pair.read_bytes().rstrip())
    assert read_volume(pair).shape == (48, 56, 64)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("NDims = 3", "NDims = 99999", "its header claims 99999 dimensions"),
        ("DimSize = 64 56 48", "DimSize = 2000 1000 1000", "it is truncated: 344,064 of 4,000,000,000"),
        ("DimSize = 64 56 48", "DimSize = 64 55 48", "it holds more than the 337,920 bytes that its header claims"),
        ("DimSize = 64 56 48", "DimSize = -64 -56 48", "its header gives '-64' for DimSize"),
        ("DimSize = 64 56 48", "DimSize = 64 56", "its header gives 2 sizes for 3 dimensions"),
        ("MET_SHORT", "MET_OTHER", "its voxels are of type 'OTHER', which is not known"),
        ("BinaryData = True", "BinaryData = False", "it holds "),
        ("ElementSpacing = 5 5 5", "ElementSpacing = -5 5 5", "its voxel spacing is zero, negative or not a number"),
        ("Offset = -157.5", "Offset = nan", "its header gives 'nan -137.5 -80' for Offset"),
        ("TransformMatrix = 1 0 0 ", "TransformMatrix = 1 0 ", "its header gives '1 0 0 1 0 0 0 1' for Transform"),
        ("ElementType", "ElementToIntensityFunctionSlope = 2\nElementType", "its header scales its voxel values"),
        ("ElementType", "NDims = 2\nElementType", "its header gives NDims twice"),
        ("ElementType", "HeaderSize = -1\nElementType", "its header gives '-1' for HeaderSize"),
        ("ElementType", "no sign\nElementType", "its header is truncated or damaged"),
        ("ElementType", f"{'y' * 300} = 1\nElementType", "its header is truncated or damaged"),
        ("ElementType", "".join(f"C{i} = 1\n" for i in range(999)) + "ElementType", "its header is truncated"),
        ("ElementType", "Position = 1 2 3\nElementType", "its header gives different Offset and Position"),
        ("ElementType", "ElementSize = 1 2 3\nElementType", "its header gives different ElementSpacing"),
        ("ElementType", "Comment = a\x1fb\nElementType", "its header holds control characters"),
        *[
            ("ElementType", f"{sign}ElementDataFile = LOCAL\nElementType", "its header is truncated or damaged")
            for sign in ("\x1f", "\x1c", "\xa0", "\x85", "\u2003")
        ],
        ("DataFile = LOCAL", "DataFile = LIST", "its voxels lie in several files: merge them into one"),
        ("DataFile = LOCAL", "DataFile = ct%s.raw", "its voxels lie in several files: merge them into one"),
        ("DataFile = LOCAL", "DataFile = /dev/zero", "its header names a voxel file outside its folder, /dev/zero"),
    ],
)  # fmt: skip
def test_header_that_leaves_something_open_is_refused(path, old, new, problem):
    assert refusal(replace(path, old, new)).startswith(problem)


def test_voxels_of_another_folder_are_not_read(pair):
    (pair.parent / "other").mkdir()
    moved = pair.rename(pair.parent / "other" / "ct.mhd")
    assert refusal(moved) == "its voxel file ct.raw is missing"
    assert refusal(replace(moved, "ct.raw", "../ct.raw")).startswith("its header names a voxel file outside its folder")
    assert refusal(replace(moved, "../ct.raw", str(pair.with_suffix(".raw")))).startswith(
        "its header names a voxel file"
    )


def test_a_pipe_in_the_place_of_voxels_is_not_waited_for(pair):
    pair.with_suffix(".raw").unlink()
    os.mkfifo(pair.with_suffix(".raw"))
    assert refusal(pair) == "its voxel file ct.raw is missing"


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ("-1", "its header gives '-1' for"),
        ("999999999", "it is truncated: "),
        ("10", "it holds more than the 10 bytes"),
    ],
)
def test_compressed_voxels_are_as_long_as_the_header_says(tmp_path, thorax, size, problem):
    write_volume(thorax, tmp_path / "ct.mha")
    data = (tmp_path / "ct.mha").read_bytes()
    line = next(line for line in data.splitlines() if line.startswith(b"CompressedDataSize"))
    (tmp_path / "ct.mha").write_bytes(data.replace(line, b"CompressedDataSize = " + size.encode()))
    assert refusal(tmp_path / "ct.mha").startswith(problem)


def test_layout_tells_where_the_voxels_lie(path, pair):
    layout = read_layout(path)
    assert (layout.path, layout.voxels, layout.size) == (path, 48 * 56 * 64, 2 * 48 * 56 * 64)
    assert layout.offset == path.stat().st_size - layout.size
    assert (read_layout(pair).path, read_layout(pair).offset) == (pair.with_suffix(".raw"), 0)


def test_lines_may_be_long(path, thorax):
    replace(path, "ElementType", f"Comment = {'y' * 5000}\nElementType")
    np.testing.assert_array_equal(read_volume(path).array, thorax.array)


def test_voxels_may_be_text(path, thorax):
    data = path.read_bytes()
    head = data[: len(data) - 2 * thorax.array.size].replace(b"BinaryData = True", b"BinaryData = False")
    path.write_bytes(head + b" ".join(b"%d" % value for value in thorax.array.ravel()))
    np.testing.assert_array_equal(read_volume(path).array, thorax.array)


def test_big_endian_voxels_are_turned(path, thorax):
    data = path.read_bytes()
    head = data[: len(data) - 2 * thorax.array.size].replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True")
    path.write_bytes(head + thorax.array.astype(">i2").tobytes())
    np.testing.assert_array_equal(read_volume(path).array, thorax.array)
