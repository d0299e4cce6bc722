import errno
import gzip
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.bad_files import edit_header
from helpers.volumes import example, oblique
from hypothesis import given, settings
from hypothesis import strategies as st

from lnq.errors import ImageError
from lnq.image.itk import read_geometry, read_volume, write_volume

SINGLE_FILE = (".mha", ".nrrd", ".nii", ".nii.gz")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same noise in every format, as SimpleITK writes it."""
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 30, 40)).astype(np.int16)
    image = sitk.GetImageFromArray(noise)
    paths = {}
    for name in ("plain.mha", "zipped.mha", "plain.nrrd", "zipped.nrrd", "plain.nii", "zipped.nii.gz"):
        paths[name] = tmp_path / name
        sitk.WriteImage(image, str(paths[name]), useCompression=name.startswith("zipped"))
    return paths


@pytest.mark.parametrize("suffix", SINGLE_FILE)
@pytest.mark.parametrize("direction", [None, oblique(), np.eye(3)[::-1][:, [2, 0, 1]], np.diag([1.0, -1, 1])])
def test_writing_and_reading_keeps_values_and_geometry(tmp_path, suffix, direction):
    volume = example(direction)
    path = tmp_path / f"case{suffix}"
    write_volume(volume, path)
    again = read_volume(path)
    assert again.array.dtype == np.int16
    np.testing.assert_array_equal(again.array, volume.array)
    tolerance = 1e-5 if ".nii" in suffix else 1e-9  # NIfTI holds its geometry in float32
    np.testing.assert_allclose(again.affine, volume.affine, rtol=0, atol=tolerance)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_axes_are_those_of_simpleitk_turned_around(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((1, 2, 3))
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    sitk.WriteImage(image, str(tmp_path / "turned.mha"))
    volume = read_volume(tmp_path / "turned.mha")
    for x, y, z in [(0, 0, 0), (5, 4, 3), (1, 2, 3)]:
        expected = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose((volume.affine @ [z, y, x, 1])[:3], expected)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (np.uint8, np.uint8),
        (np.uint16, np.int16),
        (np.int32, np.int16),
        (np.float64, np.float32),
    ],
)
def test_types_on_disk_become_one_of_three(tmp_path, stored, read):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), stored)), str(tmp_path / "typed.nrrd"))
    volume = read_volume(tmp_path / "typed.nrrd")
    assert volume.array.dtype == read
    assert (volume.array == 1).all()


def test_integers_beyond_16_bit_become_floats(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.full((3, 4, 5), 40_000, np.uint16)), str(tmp_path / "high.nrrd"))
    assert read_volume(tmp_path / "high.nrrd").array.dtype == np.float32


def test_a_mask_may_be_bool(tmp_path):
    mask = example().with_array(example().array > 0)
    write_volume(mask, tmp_path / "mask.mha")
    again = read_volume(tmp_path / "mask.mha")
    assert again.array.dtype == np.uint8
    np.testing.assert_array_equal(again.array, mask.array)


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as error:
        read_volume(path)
    return str(error.value)


@pytest.mark.parametrize("kept", [0.5, 0.99])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("plain.mha", "it is truncated: "),
        ("zipped.mha", "it is truncated: "),
        ("plain.nrrd", "it is truncated: "),
        ("zipped.nrrd", "it is truncated or damaged"),
        ("plain.nii", "it is truncated: "),
        ("zipped.nii.gz", "it is truncated or damaged"),
    ],
)
def test_truncated_files_are_refused(files, name, reason, kept):
    data = files[name].read_bytes()
    files[name].write_bytes(data[: int(len(data) * kept)])
    assert refusal(files[name]).startswith(f"{name} cannot be read: {reason}")


def test_a_nifti_file_missing_one_byte_is_refused(files):
    path = files["plain.nii"]
    path.write_bytes(path.read_bytes()[:-1])
    # 348 bytes of header, 4 of extensions, 20 * 30 * 40 voxels of 2 bytes
    assert refusal(path) == "plain.nii cannot be read: it is truncated: 48,351 of 48,352 bytes are there"


@pytest.mark.parametrize("name", ["zipped.mha", "zipped.nii.gz"])
def test_compressed_files_with_one_wrong_byte_are_refused(files, name):
    data = bytearray(files[name].read_bytes())
    data[-2000] ^= 255
    files[name].write_bytes(data)
    assert refusal(files[name]) == f"{name} cannot be read: it is truncated or damaged"


def test_a_header_without_its_voxel_file_is_refused(tmp_path):
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkInt16), str(tmp_path / "a.mhd"), useCompression=True)
    assert read_volume(tmp_path / "a.mhd").shape == (6, 5, 4)
    (tmp_path / "a.zraw").unlink()
    assert refusal(tmp_path / "a.mhd") == "a.mhd cannot be read: its voxel file a.zraw is missing"


def test_a_header_with_letters_for_numbers_is_refused(tmp_path):
    keys = "NDims = 3\nBinaryData = True\nDimSize = a b c\nElementSpacing = 1 1 1\nElementType = MET_SHORT\n"
    (tmp_path / "a.mha").write_text(keys + "ElementDataFile = LOCAL\nxyz")
    assert refusal(tmp_path / "a.mha") == "a.mha cannot be read: its header gives 'a' for DimSize"


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "text.mha").write_text("A letter to the clinic.")
    assert refusal(tmp_path / "text.mha").startswith("text.mha cannot be read: it is ")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    assert refusal(tmp_path / "empty.nii.gz").startswith("empty.nii.gz cannot be read: it is ")
    assert refusal(tmp_path / "none.mha") == "none.mha: there is no such file"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (sitk.Image([4, 5], sitk.sitkInt16), "it has 2 dimensions: a CT volume has 3"),
        (sitk.Image([4, 5, 6, 2], sitk.sitkInt16), "it has 4 dimensions: a CT volume has 3"),
        (
            sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3),
            "it is a colour or vector image: a CT has one value per voxel",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii.gz"])
def test_images_of_another_kind_are_refused(tmp_path, image, reason, suffix):
    path = tmp_path / f"other{suffix}"
    sitk.WriteImage(image, str(path))
    assert refusal(path) == f"{path.name} cannot be used: {reason}"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("TransformMatrix = 1 0 0 0 1 0", "TransformMatrix = 1 0 0 1 0 0", "orientation matrix is not a rotation"),
        ("TransformMatrix = 1 0 0", "TransformMatrix = 1 0.3 0", "orientation matrix is not a rotation"),
        ("TransformMatrix = 1 0 0", "TransformMatrix = 2 0 0", "orientation matrix is not a rotation"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 0 1 1", "voxel spacing is zero, negative or not a number"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = -1 1 1", "voxel spacing is zero, negative or not a number"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = nan 1 1", "its header gives 'nan 1 1' for ElementSpacing"),
    ],
)
def test_impossible_geometry_is_refused(files, old, new, reason):
    data = files["plain.mha"].read_bytes()
    assert old.encode() in data
    files["plain.mha"].write_bytes(data.replace(old.encode(), new.encode()))
    assert reason in refusal(files["plain.mha"])


def test_a_sheared_nifti_is_refused_instead_of_bent(files):
    data = bytearray(gzip.decompress(files["zipped.nii.gz"].read_bytes()))
    row_x = np.frombuffer(data[280:296], "<f4").copy()  # srow_x of the NIfTI-1 header
    row_x[1] = 0.5
    data[280:296] = row_x.tobytes()
    data[252:254] = bytes(2)  # no qform
    files["zipped.nii.gz"].write_bytes(gzip.compress(bytes(data)))
    assert refusal(files["zipped.nii.gz"]) == ("zipped.nii.gz cannot be read: its orientation matrix is not a rotation")


def test_direction_cosines_of_few_decimals_pass(files):
    data = files["plain.mha"].read_bytes()
    rounded = b"TransformMatrix = 0.9848 0.1736 0 -0.1736 0.9848 0 0 0 1"
    files["plain.mha"].write_bytes(data.replace(b"TransformMatrix = 1 0 0 0 1 0 0 0 1", rounded))
    assert read_volume(files["plain.mha"]).spacing_mm == pytest.approx((1, 1, 1), abs=1e-4)


def test_writing_names_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"one of \.mha, \.nrrd, \.nii, \.nii\.gz, not as case\.png"):
        write_volume(example(), tmp_path / "case.png")
    with pytest.raises(PermissionError, match="does not exist or cannot be written to"):
        write_volume(example(), tmp_path / "nowhere" / "case.mha")


KEYS = ("NRRD_kinds[0]", "0008|0060", "dim[0]", "srow_x", "ITK_InputFilterName", "Modality (0008,0060)", "1")
"""Keys that writers add to headers: ITK keeps those of the NRRD, NIfTI or DICOM file that an image was read from."""


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr", ".nii.gz"])
def test_what_a_converter_notes_in_a_header_does_no_harm(tmp_path, suffix):
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = sitk.GetImageFromArray(values)
    for key in KEYS:
        image.SetMetaData(key, "2.5 = a value")
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").array, values)


def test_a_name_as_long_as_file_systems_allow_can_be_written(tmp_path, thorax):
    path = tmp_path / f"{'x' * 251}.mha"
    write_volume(thorax, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@settings(max_examples=80, deadline=None)
@given(
    suffix=st.sampled_from((".mha", ".mhd", ".nrrd", ".nhdr", ".nii", ".nii.gz")),
    kind=st.sampled_from((np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64)),
    turns=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    flips=st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    packed=st.booleans(),
)
def test_values_and_places_are_those_of_simpleitk(suffix, kind, turns, flips, spacing, packed):
    array = np.random.default_rng(2).integers(0, 100, (4, 5, 6)).astype(kind)
    image = sitk.GetImageFromArray(array)
    turn = sitk.Euler3DTransform((0, 0, 0), *turns)
    direction = np.array(turn.GetMatrix()).reshape(3, 3) * flips
    image.SetDirection([float(v) for v in direction.ravel()])
    image.SetSpacing(spacing)
    image.SetOrigin((-12.5, 30.25, -400.0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"ct{suffix}"
        sitk.WriteImage(image, str(path), useCompression=packed)
        volume, wanted = read_volume(path), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(wanted))
    for x, y, z in [(0, 0, 0), (5, 4, 3), (1, 2, 3), (5, 0, 0)]:
        place = wanted.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose((volume.affine @ [z, y, x, 1])[:3], place, atol=1e-3)


def test_a_header_that_claims_more_voxels_than_any_ct_has_is_refused(tmp_path, thorax):
    edit_header(thorax, tmp_path / "ct.mha", "DimSize", "99999 99999 99999")
    with pytest.raises(ImageError, match="its header claims 999,970,000,299,999 voxels, more than any CT has"):
        read_volume(tmp_path / "ct.mha")
    with pytest.raises(ImageError, match="more than any CT has"):
        read_geometry(tmp_path / "ct.mha")


def test_the_geometry_alone_is_that_of_the_whole(tmp_path, thorax):
    write_volume(thorax, tmp_path / "ct.mha")
    geometry = read_geometry(tmp_path / "ct.mha")
    assert geometry.shape == thorax.shape
    np.testing.assert_allclose(geometry.affine, thorax.affine)


def test_a_file_that_is_not_as_it_was_written_is_an_error(tmp_path, thorax, monkeypatch):
    """ITK says nothing where the disk is full."""

    def cut(image, path: str, **_: object) -> None:
        write_image(image, path)
        os.truncate(path, 1000)

    write_image = sitk.WriteImage
    monkeypatch.setattr(sitk, "WriteImage", cut)
    with pytest.raises(OSError, match="Input/output error"):
        write_volume(thorax, tmp_path / "ct.mha")
    monkeypatch.setattr("lnq.files._LEAST_FREE", 2**60)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_volume(thorax, tmp_path / "ct.mha")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
