"""Cases opened from files, series and archives, and the fingerprints of their contents."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lnq.archive.case import Case
from lnq.archive.discovery import discover
from lnq.archive.open import case_from_plain, case_to_plain, content_sha256, file_state, open_case
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
        source = open_case(found.case, scratch)
        np.testing.assert_array_equal(source.volume.array, thorax.array)
        np.testing.assert_allclose(source.volume.affine, thorax.affine, atol=1e-6)
        assert len(source.slices) == (len(thorax.array) if found.case.dicom else 0)
        assert all(path.is_file() for path in source.slices)


def test_slices_come_in_the_volumes_order(tmp_path, thorax, write_dicom, scratch):
    write_dicom(thorax, tmp_path / "series")  # names against the order in space
    (found,) = discover([tmp_path / "series"])
    names = [path.name for path in open_case(found.case, scratch).slices]
    assert names == [f"{number:04}.dcm" for number in range(len(thorax.array), 0, -1)]


def test_a_member_that_is_damaged_is_refused(archive, scratch):
    case = discover([archive])[1].case
    with zipfile.ZipFile(archive) as packed:
        start = packed.getinfo(case.files[5]).header_offset + 3000
    data = bytearray(archive.read_bytes())
    data[start : start + 100] = b"?" * 100
    archive.write_bytes(data)
    with pytest.raises(ImageError, match=r"^patient.zip cannot be used: the archive is damaged \(Bad CRC-32"):
        open_case(case, scratch)


def test_an_archive_that_unpacks_to_too_much_is_refused(archive, scratch, monkeypatch):
    monkeypatch.setattr("lnq.archive.open._MOST_BYTES", 1000)
    with pytest.raises(ImageError, match="patient.zip cannot be used: it unpacks to more than 0 GB"):
        open_case(discover([archive])[0].case, scratch)


def test_fingerprints_follow_contents_and_nothing_else(tmp_path, thorax, write_dicom, archive):
    write_volume(thorax, tmp_path / "a.mha")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "b.mha").write_bytes((tmp_path / "a.mha").read_bytes())
    one, other = Case("a", tmp_path / "a.mha"), Case("b", tmp_path / "copy" / "b.mha")
    assert content_sha256(one) == content_sha256(other)
    write_volume(thorax.with_array(thorax.array + 1), tmp_path / "copy" / "b.mha")
    assert content_sha256(one) != content_sha256(other)
    assert file_state(one) != file_state(other)
    header, series = (found.case for found in discover([archive]))
    assert len({content_sha256(case) for case in (header, series)}) == 2
    assert file_state(series)[0] == 1


def test_the_voxel_file_beside_a_header_counts(tmp_path, thorax):
    sitk.WriteImage(to_sitk(thorax), str(tmp_path / "a.mhd"))
    case = Case("a", tmp_path / "a.mhd")
    before = content_sha256(case)
    assert file_state(case)[0] == 2
    sitk.WriteImage(to_sitk(thorax.with_array(thorax.array + 1)), str(tmp_path / "a.mhd"))
    assert content_sha256(case) != before


def test_cases_survive_as_plain_values(archive):
    for found in discover([archive]):
        assert case_from_plain(case_to_plain(found.case)) == found.case
