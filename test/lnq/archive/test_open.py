"""Cases opened from files, series and archives, and the fingerprints of their contents."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lnq.archive.case import ArchivedSeries, ImageFile, content_sha256, file_state
from lnq.archive.discovery import discover
from lnq.archive.open import read_ct
from lnq.errors import ImageError
from lnq.image.itk import to_sitk, write_volume


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def archive(tmp_path, thorax, write_dicom) -> Path:
    """A DICOM series, and a header with its voxel file."""
    inside = tmp_path / "inside"
    write_dicom(thorax, inside / "study")
    sitk.WriteImage(to_sitk(thorax), str(inside / "scan.mhd"))
    with zipfile.ZipFile(tmp_path / "patient.zip", "w") as packed:
        for path in sorted(inside.rglob("*")):
            packed.write(path, path.relative_to(inside))
    return tmp_path / "patient.zip"


def test_what_lies_in_an_archive_is_read_as_if_it_lay_outside(archive, scratch, thorax):
    for found in discover([archive]):
        source = found.case.open(scratch)
        np.testing.assert_array_equal(source.volume.array, thorax.array)
        np.testing.assert_allclose(source.volume.affine, thorax.affine, atol=1e-6)
        assert len(source.slices) == (len(thorax.array) if isinstance(found.case, ArchivedSeries) else 0)
        assert all(one.path.is_file() for one in source.slices)


def test_slices_come_in_the_volumes_order(tmp_path, thorax, write_dicom, scratch):
    write_dicom(thorax, tmp_path / "series")  # names against the order in space
    (found,) = discover([tmp_path / "series"])
    names = [one.path.name for one in found.case.open(scratch).slices]
    assert names == [f"{number:04}.dcm" for number in range(len(thorax.array), 0, -1)]


def test_a_member_that_is_damaged_is_refused(archive, scratch):
    case = discover([archive])[1].case
    with zipfile.ZipFile(archive) as packed:
        start = packed.getinfo(case.members[5]).header_offset + 3000
    data = bytearray(archive.read_bytes())
    data[start : start + 100] = b"?" * 100
    archive.write_bytes(data)
    with pytest.raises(ImageError, match=r"^patient.zip cannot be used: the archive is damaged \(Bad CRC-32"):
        case.open(scratch)


def test_an_archive_that_unpacks_to_too_much_is_refused(archive, scratch, monkeypatch):
    monkeypatch.setattr("lnq.archive.open._MOST_BYTES", 1000)
    with pytest.raises(
        ImageError, match="patient.zip cannot be used: it unpacks to more than 0.0 GB, for which there is no room"
    ):
        discover([archive])[0].case.open(scratch)


def test_fingerprints_follow_contents_and_nothing_else(tmp_path, thorax, write_dicom, archive):
    write_volume(thorax, tmp_path / "a.mha")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "b.mha").write_bytes((tmp_path / "a.mha").read_bytes())
    one, other = ImageFile("a", tmp_path / "a.mha"), ImageFile("b", tmp_path / "copy" / "b.mha")
    assert content_sha256(one) == content_sha256(other)
    write_volume(thorax.with_array(thorax.array + 1), tmp_path / "copy" / "b.mha")
    assert content_sha256(one) != content_sha256(other)
    assert file_state(one) != file_state(other)
    header, series = (found.case for found in discover([archive]))
    assert len({content_sha256(case) for case in (header, series)}) == 2
    assert file_state(series)[0] == 1


def test_the_voxel_file_beside_a_header_counts(tmp_path, thorax):
    sitk.WriteImage(to_sitk(thorax), str(tmp_path / "a.mhd"))
    case = ImageFile("a", tmp_path / "a.mhd")
    before = content_sha256(case)
    assert file_state(case)[0] == 2
    sitk.WriteImage(to_sitk(thorax.with_array(thorax.array + 1)), str(tmp_path / "a.mhd"))
    assert content_sha256(case) != before


def test_headers_are_parsed_once_and_travel_with_the_series(tmp_path, thorax, write_dicom, scratch, monkeypatch):
    import pydicom

    write_dicom(thorax, tmp_path / "series", PatientName="Doe^Jane")
    (found,) = discover([tmp_path / "series"])
    parsed, read = [], pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **kwargs: parsed.append(1) or read(*args, **kwargs))
    slices = found.case.open(scratch).slices
    assert len(parsed) == len(slices) == len(thorax.array)
    assert {str(one.header.PatientName) for one in slices} == {"Doe^Jane"}


def test_a_folder_with_a_series_and_a_file_are_read_alike(tmp_path, thorax, write_dicom):
    write_volume(thorax, tmp_path / "ct.mha")
    for path in (tmp_path / "ct.mha", write_dicom(thorax, tmp_path / "series")):
        np.testing.assert_array_equal(read_ct(path).array, thorax.array)
    write_volume(thorax.with_array(thorax.array.clip(0, None)), tmp_path / "bright.mha")
    with pytest.raises(ImageError, match=r"^bright.mha cannot be used: its values are not HU: none lies below -200$"):
        read_ct(tmp_path / "bright.mha")
