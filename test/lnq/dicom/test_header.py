"""Telling DICOM files and kinds of image apart by a header alone."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from lnq.dicom.header import SliceFile, count_of, is_ct_slice, is_dicom, is_dicom_file, is_whole, read_header
from lnq.errors import ImageError


def header(**tags: object) -> Dataset:
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (bytes(128) + b"DICM", True),
        (b"x" * 128 + b"DICM\x02\x00", True),
        (bytes(128) + b"DIC", False),
        (b"DICM", False),
    ],
)
def test_a_dicom_file_is_known_by_its_preamble(tmp_path: Path, start: bytes, expected: bool):
    (tmp_path / "file").write_bytes(start)
    assert is_dicom(start) == is_dicom_file(tmp_path / "file") == expected


def test_what_cannot_be_read_is_no_dicom_file(tmp_path: Path):
    assert not is_dicom_file(tmp_path / "missing") and not is_dicom_file(tmp_path)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, True),
        ({"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, False),
        ({"Modality": "CT"}, True),
        ({"Modality": "MR", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, False),
        ({}, False),
    ],
)
def test_a_scout_view_is_no_slice_of_a_ct(tags: dict, expected: bool):
    assert is_ct_slice(header(**tags)) == expected


@pytest.mark.parametrize(
    ("left_out", "expected"), [("", True), ("SOPInstanceUID", True), ("Modality", True), ("Rows", False)]
)
def test_a_ct_header_that_was_cut_off_is_not_whole(left_out: str, expected: bool):
    tags = {"SOPInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "Modality": "CT", "Rows": 512}
    assert is_whole(header(**{name: value for name, value in tags.items() if name != left_out})) == expected


def test_an_object_without_pixels_is_whole_without_a_size():
    assert is_whole(header(SOPInstanceUID="1.2", SeriesInstanceUID="1.3", Modality="SR"))


@pytest.mark.parametrize(("value", "expected"), [("7", 7), (None, 1), ("0", 1)])
def test_a_missing_count_is_one(value: str | None, expected: int):
    assert count_of(header(NumberOfFrames=value) if value else header(), "NumberOfFrames") == expected


def test_a_slice_keeps_the_tags_of_image_and_results_but_not_the_pixels(thorax, write_dicom, tmp_path: Path):
    folder = write_dicom(thorax, tmp_path / "series", PatientName="Doe^Jane", StationName="CT1")
    slice_file = SliceFile.read(folder / "0001.dcm")
    assert slice_file.header.Rows == thorax.shape[1] and slice_file.header.PatientName == "Doe^Jane"
    assert "PixelData" not in slice_file.header and "StationName" not in slice_file.header


def test_a_damaged_header_is_refused_by_its_files_name(tmp_path: Path):
    (tmp_path / "cut.dcm").write_bytes(b"no DICOM file")
    with pytest.raises(ImageError, match=r"^its file cut\.dcm is damaged$"):
        read_header(tmp_path / "cut.dcm", ["Modality"])
