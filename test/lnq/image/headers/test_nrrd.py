"""NRRD files, sound ones and those that leave something open."""

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lnq.errors import ImageError
from lnq.image.headers.integrity import read_layout
from lnq.image.itk import read_volume, to_sitk, write_volume
from lnq.image.volume import Volume


@pytest.fixture
def path(tmp_path: Path, thorax: Volume) -> Path:
    """An uncompressed file."""
    write_volume(thorax, tmp_path / "ct.nrrd", compress=False)
    return tmp_path / "ct.nrrd"


@pytest.fixture(params=[False, True])
def pair(tmp_path: Path, thorax: Volume, request: pytest.FixtureRequest) -> Path:
    """A header whose voxels lie beside it, packed by gzip or not."""
    import SimpleITK as sitk

    sitk.WriteImage(to_sitk(thorax), str(tmp_path / "ct.nhdr"), useCompression=request.param)
    return tmp_path / "ct.nhdr"


def replace(path: Path, field: str, line: str) -> Path:
    """Replace the line of a field, `field: value`."""
    header, rest = path.read_bytes()[:1000], path.read_bytes()[1000:]
    assert re.search(rb"^" + field.encode() + rb": ", header, flags=re.MULTILINE)
    pattern = rb"^" + field.encode() + rb": .*$"
    path.write_bytes(re.sub(pattern, lambda _: line.encode(), header, flags=re.MULTILINE) + rest)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as error:
        read_volume(path)
    return str(error.value).removeprefix(f"{path.name} cannot be read: ")


@pytest.mark.parametrize("directions", ["none none none", "(5, 0, 0) none none", "(5,0,0) (0,nan,0) (0,0,5)"])
def test_an_axis_without_spacing_is_refused(path, directions):
    assert refusal(replace(path, "space directions", f"space directions: {directions}")) == (
        "its header gives no voxel spacing"
    )


@pytest.mark.parametrize("directions", ["(5,0,0)(0,5,0)(0,0,5)", "(5, 0, 0) (0, 5, 0) (0, 0, 5)"])
def test_vectors_may_hold_blanks_or_have_none_between_them(path, directions):
    assert read_layout(replace(path, "space directions", f"space directions: {directions}")).voxels == 48 * 56 * 64


def without_space(path: Path, spacings: str) -> Path:
    head, voxels = path.read_bytes().split(b"\n\n", 1)
    head = re.sub(rb"space directions: .*", b"spacings: " + spacings.encode(), head)
    head = re.sub(rb"space( origin)?: .*\n", b"", head + b"\n")
    path.write_bytes(head + b"\n" + voxels)
    return path


def test_spacings_alone_are_read(path):
    volume = read_volume(without_space(path, "1.5 2 2.5"))
    assert volume.spacing_mm == (2.5, 2.0, 1.5) and not volume.oriented
    assert volume.warnings == (
        "The header does not say which side is left: sides and heights are left out of the table of nodes.",
    )


def test_negative_spacings_are_refused(path):
    assert refusal(without_space(path, "-1.5 2 2.5")) == "its voxel spacing is zero, negative or not a number"


def test_header_of_its_own_is_read_with_its_voxels(pair, thorax):
    np.testing.assert_array_equal(read_volume(pair).array, thorax.array)


@pytest.mark.parametrize("pair", [False], indirect=True)
def test_a_part_of_the_voxel_file_may_be_skipped(pair, thorax):
    voxels = pair.with_suffix(".raw")
    voxels.write_bytes(bytes(512) + voxels.read_bytes())
    assert refusal(pair) == "it holds more than the 344,064 bytes that its header claims"
    replace(pair, "encoding", "encoding: raw\nbyte skip: 512")
    np.testing.assert_array_equal(read_volume(pair).array, thorax.array)


def test_a_packed_voxel_file_is_not_skipped_into(pair):
    skip = "byte skip: 512" if pair.with_suffix(".raw.gz").exists() else "line skip: 1"
    assert refusal(replace(pair, "space origin", skip)) == "its header skips a part of its voxels"


@pytest.mark.parametrize("name", ["../ct.raw", "/dev/zero", "below/../../ct.raw"])
def test_voxels_of_another_folder_are_not_read(pair, name):
    assert refusal(replace(pair, "data file", f"data file: {name}")) == (
        f"its header names a voxel file outside its folder, {name}"
    )
    assert refusal(replace(pair, "data file", "datafile: other.raw")) == "its voxel file other.raw is missing"


@pytest.mark.parametrize(
    ("field", "line", "problem"),
    [
        ("sizes", "sizes: 2000 1000 1000", "it is truncated: 344,064 of 4,000,000,000 bytes are there"),
        ("sizes", "sizes: 64 55 48", "it holds more than the 337,920 bytes that its header claims"),
        ("sizes", "sizes: 64 56", "its header gives 2 sizes for 3 dimensions"),
        ("type", "type: block", "its voxels are of type 'block', which is not known"),
        ("encoding", "encoding: bzip2", "its voxels are neither raw nor text nor packed by gzip"),
        ("encoding", "encoding: raw\nsizes: 1 1 1", "its header gives sizes twice"),
        ("encoding", "encoding: raw\nData File: LIST", "its voxels lie in several files: merge them into one"),
        ("encoding", "encoding: raw\nno field", "its header is truncated or damaged"),
    ],
)
def test_header_that_leaves_something_open_is_refused(path, field, line, problem):
    assert refusal(replace(path, field, line)) == problem


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("y" * 5000, "its header is truncated or damaged"),
        ("# x\rdata file: other.raw", "its header holds control characters"),
        ("\u2003data file: other.raw", "its header is truncated or damaged"),
    ],
)
def test_a_line_that_readers_take_differently_is_refused(path, line, problem):
    assert refusal(replace(path, "space", line)) == problem


def test_notes_may_be_long(path):
    replace(path, "encoding", f"encoding: raw\n# {'y' * 5000}\nkey:={'y' * 5000}: y")
    assert read_volume(path).shape == (48, 56, 64)


def test_voxels_may_be_text(path, thorax):
    data = path.read_bytes()
    head = data[: len(data) - 2 * thorax.array.size].replace(b"encoding: raw", b"encoding: text")
    path.write_bytes(head + b"\n".join(b"%d" % value for value in thorax.array.ravel()))
    np.testing.assert_array_equal(read_volume(path).array, thorax.array)


@pytest.mark.parametrize(("space", "signs"), [("RAS", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1))])
def test_spaces_are_turned_to_lps(path, thorax, space, signs):
    affine = read_volume(replace(path, "space", f"space: {space}")).affine
    np.testing.assert_allclose(affine[:3], np.array(signs)[:, None] * thorax.affine[:3])


def test_a_space_of_another_name_leaves_the_sides_open(path):
    assert not read_volume(replace(path, "space", "space: scanner-xyz")).oriented


@pytest.mark.parametrize(
    ("centers", "origin"),
    [("", (6, 7.5, 9)), ("centers: cell cell cell\n", (6, 7.5, 9)), ("centers: node node node\n", (5, 6, 7))],
)
def test_without_directions_the_axes_begin_where_the_header_says(tmp_path, centers, origin):
    """The origins are those that ITK gives."""
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nspacings: 2 3 4\naxis mins: 5 6 7\n"
        f"{centers}endian: little\nencoding: raw\n\n"
    )
    path = tmp_path / "ct.nrrd"
    path.write_bytes(header.encode() + np.arange(24, dtype="<i2").tobytes())
    volume = read_volume(path)
    assert tuple(volume.affine[:3, 3]) == sitk.ReadImage(str(path)).GetOrigin() == origin
    assert not volume.oriented
