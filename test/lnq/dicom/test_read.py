import tracemalloc
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from lnq.dicom.header import read_header
from lnq.dicom.read import is_dicom_folder, read_dicom_files, read_dicom_series
from lnq.errors import ImageError
from lnq.image.volume import Volume, make_affine


def small_ct(spacing_mm=(2.5, 0.75, 0.5), origin_mm=(-10.0, 20.0, -300.25), direction=None) -> Volume:
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) * 10 - 1000
    return Volume(array, make_affine(spacing_mm, origin_mm, direction))


def edit(path, **tags):
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def oblique() -> np.ndarray:
    """Columns z, y, x of a grid turned by 30 degrees about x and then by 20 about the patient's long axis."""
    a, b = np.radians([30, 20])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_s = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return (about_s @ about_x)[:, ::-1]


def test_slices_are_sorted_by_position_and_rescaled_to_hu(tmp_path, write_dicom):
    ct = small_ct()
    read = read_dicom_series(write_dicom(ct, tmp_path / "series")).volume
    assert read.array.dtype == np.int16
    np.testing.assert_array_equal(read.array, ct.array)
    np.testing.assert_allclose(read.affine, ct.affine, atol=1e-9)


def test_oblique_series_keeps_its_geometry(tmp_path, write_dicom):
    ct = small_ct(direction=oblique())
    read = read_dicom_series(write_dicom(ct, tmp_path / "series")).volume
    np.testing.assert_array_equal(read.array, ct.array)
    np.testing.assert_allclose(read.affine, ct.affine, atol=1e-5)
    np.testing.assert_allclose(read.direction.T @ read.direction, np.eye(3), atol=1e-12)


def test_series_with_most_slices_is_chosen_and_scout_left_out(tmp_path, write_dicom):
    ct = small_ct()
    folder = write_dicom(ct, tmp_path / "series")
    for name, part, tags in (
        ("few", ct.array[:2], {}),
        ("scout", np.repeat(ct.array, 3, axis=0), {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
    ):
        other = write_dicom(Volume(part, ct.affine), tmp_path / name, **tags)
        for file in other.iterdir():
            file.rename(folder / f"{name}{file.name}")
    np.testing.assert_array_equal(read_dicom_series(folder).volume.array, ct.array)


def test_of_a_folders_series_one_is_chosen_as_of_a_study(tmp_path, write_dicom):
    array = np.zeros((60, 4, 5), np.int16)
    thin = Volume(array, make_affine((1.0, 1, 1)))
    with_contrast = Volume(array[:20] + 100, make_affine((3.0, 1, 1)))
    folder = write_dicom(thin, tmp_path / "study")
    for file in write_dicom(with_contrast, tmp_path / "other", ContrastBolusAgent="Iopromide").iterdir():
        file.rename(folder / f"contrast{file.name}")
    np.testing.assert_array_equal(read_dicom_series(folder).volume.array, with_contrast.array)


def test_slices_that_all_have_one_uid_are_told_apart_by_their_places(tmp_path, write_dicom):
    ct = small_ct()
    folder = write_dicom(ct, tmp_path / "series", SOPInstanceUID="1.2.3")
    (folder / "copy.dcm").write_bytes((folder / "0002.dcm").read_bytes())
    np.testing.assert_array_equal(read_dicom_series(folder).volume.array, ct.array)


def test_slices_of_a_series_may_lie_in_several_folders(tmp_path, write_dicom):
    ct = small_ct()
    folder = write_dicom(ct, tmp_path / "series")
    (tmp_path / "other").mkdir()
    moved = (folder / "0002.dcm").rename(tmp_path / "other" / "0002.dcm")
    read = read_dicom_files([*folder.iterdir(), moved], "LNQ-1")
    assert [one.file.path.name for one in read.stack.slices] == ["0004.dcm", "0003.dcm", "0002.dcm", "0001.dcm"]
    np.testing.assert_array_equal(read.volume.array, ct.array)
    with pytest.raises(ImageError, match=r"^LNQ-1 cannot be used: slices are missing"):
        read_dicom_files(list(folder.iterdir()), "LNQ-1")
    moved.write_text("no DICOM file")
    with pytest.raises(ImageError, match=r"^LNQ-1 cannot be used: its file 0002.dcm is damaged"):
        read_dicom_files([*folder.iterdir(), moved], "LNQ-1")


def test_folder_is_dicom_by_its_files_contents(tmp_path, write_dicom):
    folder = write_dicom(small_ct(), tmp_path / "study" / "series")
    for file in folder.iterdir():
        file.rename(file.with_suffix(""))
    (tmp_path / "text.dcm").write_text("no DICOM file")
    assert is_dicom_folder(folder)
    assert not is_dicom_folder(folder.parent)
    assert not is_dicom_folder(tmp_path)


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ({"modality": "MR"}, "series cannot be used: it holds MR images, not a CT"),
        (
            {"ImageType": "LOCALIZER"},
            "series cannot be used: its only CT images are",
        ),
        (
            {"NumberOfFrames": 4},
            "series cannot be used: its multi-frame file .* does not describe each of its 4 frames",
        ),
        ({"SamplesPerPixel": 3}, "series cannot be used: it holds colour images"),
        (
            {"ImageOrientationPatient": [1, 0, 0, 0.5, 0.8, 0]},
            "the orientation of its slice .* is not a rotation",
        ),
        ({"ImagePositionPatient": None}, "its slice .* has no usable position, orientation, spacing, size or scale"),
        ({"ImagePositionPatient": [0, 0, 5]}, "it has two slices at the same position"),
    ],
)
def test_series_is_refused(tmp_path, write_dicom, tags, sentence):
    folder = write_dicom(small_ct(), tmp_path / "series", **tags)
    with pytest.raises(ImageError, match=sentence):
        read_dicom_series(folder)


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ({"PixelSpacing": [0.7, 0.7]}, "mixes slices of different size, orientation or pixel spacing"),
        (
            {"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]},
            "mixes slices of different size, orientation or pixel spacing",
        ),
        ({"ImagePositionPatient": [-10, 20, -297.0]}, "unevenly spaced, 1.75 to 3.25 mm apart"),
    ],
)
def test_series_with_one_odd_slice_is_refused(tmp_path, write_dicom, tags, sentence):
    folder = write_dicom(small_ct(), tmp_path / "series")
    edit(folder / "0003.dcm", **tags)  # the second slice, at S = -297.75
    with pytest.raises(ImageError, match=sentence):
        read_dicom_series(folder)


def test_missing_slice_is_refused(tmp_path, write_dicom):
    folder = write_dicom(small_ct(), tmp_path / "series")
    (folder / "0003.dcm").unlink()
    with pytest.raises(ImageError, match="slices are missing: the gaps are .* and 5.00 mm"):
        read_dicom_series(folder)


def test_single_slice_is_refused(tmp_path, write_dicom):
    ct = small_ct()
    folder = write_dicom(replace(ct, array=ct.array[:1]), tmp_path / "series")
    with pytest.raises(ImageError, match="it is a single slice: a CT volume is needed"):
        read_dicom_series(folder)


def test_more_tilt_than_any_gantry_has_is_refused(tmp_path, write_dicom):
    folder = write_dicom(small_ct(), tmp_path / "series")
    shear = np.tan(np.radians(35)) * 2.5  # per slice, towards the patient's back
    for z in range(4):
        edit(folder / f"{4 - z:04}.dcm", ImagePositionPatient=[-10, 20 + shear * z, -300.25 + 2.5 * z])
    with pytest.raises(ImageError, match="its slices lean by 35 degrees, more than any gantry does"):
        read_dicom_series(folder)


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ({"PixelSpacing": [-0.75, -0.5]}, "its slice .* has no usable position, orientation, spacing, size or scale"),
        ({"ImagePositionPatient": [0, 0, float("nan")]}, "its slice .* has no usable position"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "the orientation of its slice .* is not a rotation"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.02, 0.9998, 0]}, "the orientation of its slice .* is not a rotation"),
        ({"Rows": 65535, "Columns": 65535}, "its file .* does not hold the 65535 x 65535 pixels that it claims"),
        ({"Rows": 4}, "its file .* does not hold the 4 x 6 pixels that it claims"),
        ({"BitsAllocated": 8}, "its slice .* has no usable size of a pixel in bits"),
        ({"BitsStored": 17}, "its slice .* has no usable size of a pixel in bits"),
        ({"Modality": "a\\b" * 30}, "it holds .{20}... images, not a CT"),
    ],
)
@pytest.mark.filterwarnings("ignore:The value length|Invalid value")
def test_series_of_impossible_values_is_refused(tmp_path, write_dicom, tags, sentence):
    folder = write_dicom(small_ct(), tmp_path / "series", **tags)
    with pytest.raises(ImageError, match=f"^series cannot be used: {sentence}"):
        read_dicom_series(folder)


@pytest.mark.parametrize(
    ("slope", "sentence"),
    [
        ("1e6 ", r"its values are not HU: they go from 2.4e\+07 to 3.14e\+08"),
        ("nan ", "its slice .* has no usable position, orientation, spacing, size or scale"),
    ],
)
def test_values_that_are_no_hu_are_not_clamped(tmp_path, write_dicom, slope, sentence):
    folder = write_dicom(small_ct(), tmp_path / "series", RescaleSlope="1e6")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1e6 ", slope.encode()))
    with pytest.raises(ImageError, match=f"series cannot be used: {sentence}"):
        read_dicom_series(folder)


def test_values_of_metal_are_clamped(tmp_path, write_dicom):
    read = read_dicom_series(write_dicom(small_ct(), tmp_path / "series", RescaleSlope="40")).volume
    assert (read.array.dtype, read.array.max()) == (np.int16, 32767)


def test_run_lengths_of_another_size_are_refused(tmp_path, write_dicom):
    ct = Volume(np.arange(1024, dtype=np.int16).reshape(4, 16, 16), make_affine((2.5, 1, 1)))
    folder = write_dicom(ct, tmp_path / "series")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_dicom_series(folder).volume.array, ct.array)
    for path in folder.iterdir():
        edit(path, Columns=15)
    with pytest.raises(ImageError, match="its file .* does not hold the 16 x 15 pixels that it claims"):
        read_dicom_series(folder)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_an_outer_slice_cut_within_its_header_is_not_left_out(tmp_path, write_dicom):
    folder = write_dicom(small_ct(), tmp_path / "series")
    whole = (folder / "0001.dcm").read_bytes()
    for size in range(140, whole.index(b"MONOCHROME2"), 11):
        (folder / "0001.dcm").write_bytes(whole[:size])
        with pytest.raises(ImageError, match="its (file|slice|multi-frame file) 0001.dcm |mixes slices"):
            read_dicom_series(folder)


def test_a_header_read_makes_no_room_for_what_it_claims(tmp_path, write_dicom):
    path = next(write_dicom(small_ct(), tmp_path / "series").iterdir())
    data = path.read_bytes()
    path.write_bytes(data[:132] + b"\x08\0\5\0UT\0\0\0\0\0\x40" + data[132:])  # an element of 1 GB
    tracemalloc.start()
    with pytest.raises(ImageError, match="its file .* is damaged"):
        read_header(path, ["Modality", "SpecificCharacterSet"])
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


def test_truncated_slice_is_refused(tmp_path, write_dicom):
    folder = write_dicom(small_ct(), tmp_path / "series")
    whole = (folder / "0002.dcm").read_bytes()
    (folder / "0002.dcm").write_bytes(whole[:-30])
    with pytest.raises(
        ImageError, match="series cannot be used: its file 0002.dcm cannot be read: it is cut off or damaged"
    ):
        read_dicom_series(folder)
