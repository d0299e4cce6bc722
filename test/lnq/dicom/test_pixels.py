"""Stored values become HU, whatever the file says about how the picture is to be shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom_slices import enhanced, independent_hu, slice_dataset, upwards, write_slices
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from lnq.dicom.frames import frames_of
from lnq.dicom.header import SliceFile
from lnq.dicom.pixels import read_hu
from lnq.errors import ImageError

STORED = np.arange(24).reshape(2, 3, 4) * 100


def read(paths: list[Path]) -> np.ndarray:
    return read_hu([SliceFile.read(path) for path in paths])


@pytest.mark.parametrize(
    "tags",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"RescaleSlope": 2, "RescaleIntercept": "-1000.4"},
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleType": "HU"},
        {"SOPInstanceUID": "1.2.3"},
        {"WindowCenter": 40, "WindowWidth": 400, "PixelPaddingValue": 0, "SmallestImagePixelValue": 7},
    ],
)
def test_hu_are_slope_times_stored_value_plus_intercept(tmp_path: Path, tags: dict) -> None:
    def edit(dataset: pydicom.Dataset, _: int) -> None:
        for name, value in tags.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)

    paths = write_slices(tmp_path, STORED, upwards(2), edit)
    wanted = np.rint(np.stack(list(independent_hu(paths).values())))
    np.testing.assert_array_equal(read(paths), wanted)


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset, number: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = number + 1, -1024 * number

    np.testing.assert_array_equal(
        read(write_slices(tmp_path, STORED, upwards(2), edit)), [STORED[0], STORED[1] * 2 - 1024]
    )


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_the_transfer_syntax_does_not_matter(tmp_path: Path, syntax: str) -> None:
    dataset = slice_dataset(STORED[0], (0, 0, 0))
    dataset.file_meta.TransferSyntaxUID = syntax
    big = syntax == ExplicitVRBigEndian
    if big:
        dataset.PixelData = STORED[0].astype(">u2").tobytes()
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read([tmp_path / "a.dcm"]), STORED[:1] - 1024)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_without_preamble_is_read(tmp_path: Path, implicit: bool) -> None:
    dataset = slice_dataset(STORED[0], (0, 0, 0))
    del dataset.file_meta
    dataset.save_as(tmp_path / "a.dcm", implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "a.dcm").read_bytes()[:1] == b"\x08"
    np.testing.assert_array_equal(read([tmp_path / "a.dcm"]), STORED[:1] - 1024)


def test_run_lengths_are_unpacked_and_neither_scaled_twice_nor_inverted(tmp_path: Path) -> None:
    stored = np.arange(256).reshape(16, 16)  # GDCM fails with fewer pixels
    dataset = slice_dataset(stored, (0, 0, 0), PhotometricInterpretation="MONOCHROME1", RescaleSlope=3)
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read([tmp_path / "a.dcm"]), stored[None] * 3 - 1024)


@pytest.mark.parametrize("kind", ["jp2klossless", "jpeg_ls_lossless", "RLE", "implicit", "bigendian"])
def test_compressed_files_of_other_writers_hold_the_same_as_the_plain_one(kind: str) -> None:
    plain, packed = (Path(get_testdata_file(f"MR_small{end}.dcm", download=False)) for end in ("", f"_{kind}"))
    np.testing.assert_array_equal(read([packed]), read([plain]))
    np.testing.assert_array_equal(read([plain])[0], pydicom.dcmread(plain).pixel_array)


@pytest.mark.parametrize(("signed", "low"), [(0, 0), (1, -2048)])
def test_bits_beyond_the_stored_ones_do_not_count(tmp_path: Path, signed: int, low: int) -> None:
    values = np.arange(12).reshape(3, 4) + low
    dirty = (values & 0x0FFF) | 0xA000  # an overlay in the upper four bits
    tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": signed, "RescaleIntercept": 0}
    slice_dataset(dirty, (0, 0, 0), **tags).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read([tmp_path / "a.dcm"])[0], values)


@pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept"])
def test_slices_that_lost_their_scale_among_others_are_refused(tmp_path: Path, tag: str) -> None:
    paths = write_slices(tmp_path, STORED, upwards(2), lambda dataset, number: number and delattr(dataset, tag))
    lost = r"^1 of its 2 slices have lost their rescale slope or intercept, so their HU are unknown$"
    with pytest.raises(ImageError, match=lost):
        read(paths)


def test_values_of_another_unit_are_refused(tmp_path: Path) -> None:
    paths = write_slices(tmp_path, STORED, upwards(2), lambda dataset, _: setattr(dataset, "RescaleType", "Z_EFF"))
    with pytest.raises(ImageError, match="^its values are Z_EFF, not HU$"):
        read(paths)


def test_frames_of_one_object_have_their_own_scales(tmp_path: Path) -> None:
    enhanced(STORED, [1, 0]).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    frames = frames_of(SliceFile.read(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(read_hu(frames), np.stack([STORED[1] * 2 - 1001, STORED[0] * 2 - 1000]))
