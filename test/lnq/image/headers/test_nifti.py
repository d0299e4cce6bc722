"""NIfTI files, sound ones and those that leave something open."""

import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnq.errors import ImageError
from lnq.image.headers.layout import UNORIENTED
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
            [("h", 42, 2000), ("h", 44, 1000), ("h", 46, 1000)],
            "it is truncated: 344,416 of 4,000,000,352 bytes",
        ),
        ([("h", 70, 3)], "its voxels are of type 3, which is not known"),
        ([("h", 70, 16)], "it is truncated: 344,416 of 688,480 bytes are there"),  # bits per voxel left as they were
        ([("i", 344, 0x0031696E)], "its voxel file ct.img is missing"),  # voxels elsewhere
        ([("i", 0, 540)], "it is not a medical image, or its format is not known"),
    ],
)
def test_header_that_contradicts_itself_or_the_file_is_refused(tmp_path, thorax, fields, problem):
    with pytest.raises(ImageError, match=f"^ct.nii cannot be read: {problem}"):
        read_volume(with_fields(tmp_path / "ct.nii", thorax, *fields))


def test_a_fourth_dimension_of_one_is_none(tmp_path, thorax):
    path = with_fields(tmp_path / "ct.nii", thorax, ("h", 40, 4), ("h", 48, 1))
    assert read_volume(path).shape == thorax.shape


def plain_header(thorax: Volume, version: int, order: str, pair: bool = False) -> bytes:
    """A header with a sform of code 2, field by field."""
    head = bytearray(348 if version == 1 else 540)
    affine = np.diag([-1.0, -1.0, 1.0]) @ thorax.affine[:3][:, [2, 1, 0, 3]]
    spacing, size = thorax.spacing_mm[::-1], thorax.shape[::-1]

    def put(offset: int, form: str, *values: float) -> None:
        struct.pack_into(order + form, head, offset, *values)

    if version == 1:
        put(0, "i", 348)
        put(40, "8h", 3, *size, 1, 1, 1, 1)
        put(70, "2h", 4, 16)
        put(76, "8f", 1, *spacing, 0, 0, 0, 0)
        put(108, "3f", 0 if pair else 352, 1, 0)
        put(252, "2h", 0, 2)
        put(280, "12f", *affine.ravel())
        head[344:348] = b"ni1\0" if pair else b"n+1\0"
    else:
        put(0, "i", 540)
        head[4:12] = (b"ni2" if pair else b"n+2") + b"\0\r\n\x1a\n"
        put(12, "2h", 4, 16)
        put(16, "8q", 3, *size, 1, 1, 1, 1)
        put(104, "8d", 1, *spacing, 0, 0, 0, 0)
        put(168, "q", 0 if pair else 544)
        put(176, "2d", 1, 0)
        put(344, "2i", 0, 2)
        put(400, "12d", *affine.ravel())
    return bytes(head)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_both_versions_in_one_file_or_two_are_read(tmp_path, thorax, order, version, packed):
    voxels = thorax.array.astype(f"{order}i2").tobytes()
    single = plain_header(thorax, version, order) + bytes(4) + voxels
    (tmp_path / "one.nii").write_bytes(gzip.compress(single) if packed else single)
    (tmp_path / "two.hdr").write_bytes(plain_header(thorax, version, order, pair=True))
    (tmp_path / f"two.img{'.gz' if packed else ''}").write_bytes(gzip.compress(voxels) if packed else voxels)
    for name in ("one.nii", "two.hdr"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.array, thorax.array)
        np.testing.assert_allclose(volume.affine, thorax.affine, atol=1e-5)
        assert volume.warnings == () and volume.oriented


def test_an_analyze_file_is_refused(tmp_path, thorax):
    (tmp_path / "ct.hdr").write_bytes(plain_header(thorax, 1, "<")[:344] + bytes(4))
    with pytest.raises(ImageError, match="it is an Analyze file, which does not tell left from right: convert it"):
        read_volume(tmp_path / "ct.hdr")


NEITHER = [("h", 252, 0), ("h", 254, 0)]
IDENTITY = [("h", 252, 0), ("h", 254, 2), *[("f", 280 + 4 * i, float(i in (0, 5, 10))) for i in range(12)]]


@pytest.mark.parametrize("fields", [NEITHER, [*IDENTITY, *[("f", 80 + 4 * i, 1.0) for i in range(3)]]])
def test_a_header_that_does_not_tell_the_sides_says_so(tmp_path, thorax, fields):
    volume = read_volume(with_fields(tmp_path / "ct.nii", thorax, *fields))
    assert not volume.oriented and volume.warnings == (UNORIENTED,)


@pytest.mark.parametrize(("code", "used", "shift"), [(2, "qform", 0.0), (1, "sform", -10.0)])
def test_forms_that_disagree_are_told(tmp_path, thorax, code, used, shift):
    """The sform lies 10 mm to the right of the qform."""
    path = with_fields(tmp_path / "ct.nii", thorax, ("h", 252, 1), ("h", 254, code))
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 292, struct.unpack_from("<f", data, 292)[0] + 10)
    path.write_bytes(data)
    volume = read_volume(path)
    assert volume.warnings == (f"The qform and the sform of the NIfTI header disagree: the {used} was used.",)
    assert volume.affine[0, 3] == pytest.approx(thorax.affine[0, 3] + shift)


def test_of_a_sheared_sform_and_a_qform_the_latter_is_used(tmp_path, thorax):
    volume = read_volume(with_fields(tmp_path / "ct.nii", thorax, ("h", 252, 1), ("h", 254, 1), ("f", 284, 2.0)))
    assert volume.warnings == ("The sform of the NIfTI header is sheared: the qform was used.",)
    np.testing.assert_allclose(volume.affine, thorax.affine, atol=1e-4)


def test_forms_that_are_each_others_mirror_image_leave_the_sides_open(tmp_path, thorax):
    fields = [("h", 252, 1), ("h", 254, 2), ("f", 280, 5.0), ("f", 292, -157.5)]
    volume = read_volume(with_fields(tmp_path / "ct.nii", thorax, *fields))
    assert not volume.oriented and volume.warnings[-1] == UNORIENTED


def test_what_itk_writes_of_an_image_without_geometry_leaves_the_sides_open(tmp_path):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(tmp_path / "ct.nii.gz"))
    assert not read_volume(tmp_path / "ct.nii.gz").oriented


@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(2.9, 3.3))
@settings(max_examples=60, deadline=None)
def test_equal_forms_near_half_a_turn_agree(a, b, c):
    import SimpleITK as sitk

    image = sitk.Image(64, 56, 48, sitk.sitkInt16)
    image.SetSpacing((5.0, 5.0, 5.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), a, b, c).GetMatrix())
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(image, f"{folder}/ct.nii")
        assert read_volume(Path(folder) / "ct.nii").warnings == ()
