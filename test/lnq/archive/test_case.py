"""Cases: their names, what they are known by from run to run, and that they survive as plain values."""

import hashlib
import hmac
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.found import pack

from lnq.archive.case import (
    KINDS,
    ArchivedImage,
    ArchivedSeries,
    DicomSeries,
    ImageFile,
    MissingSeries,
    Subject,
    content_sha256,
    name_cases,
)
from lnq.archive.discovery import discover
from lnq.image.itk import to_sitk
from lnq.image.volume import Volume
from lnq.plain import from_tagged, to_tagged


def hashed(case: Subject) -> str:
    """The plain name with digits of the identity."""
    return f"{case.plain_name}-{case.identity[:8]}"


def test_equal_names_get_the_hash_of_their_paths():
    cases = [ImageFile("", Path(path)) for path in ("/one/ct.mha", "/two/CT.nrrd", "/other.mha")]
    names = [case.name for case in name_cases(cases)]
    assert names == [hashed(cases[0]), hashed(cases[1]), "other"]
    assert names[0].startswith("ct-")
    assert len(names[0]) == len("ct-") + 8
    assert name_cases(cases[2:], taken=["OTHER"])[0].name == hashed(cases[2])


def test_members_of_an_archive_have_their_own_names():
    members = [ArchivedImage("", Path("/a.zip"), (name,)) for name in ("in/x.mha", "y.nii.gz")]
    assert [case.name for case in name_cases(members)] == ["x", "y"]


def test_hashed_names_tell_nothing_and_stay_the_same_wherever_a_series_lies():
    """By HMAC-SHA-256: without the key nobody finds them by trying all names."""
    key = "0b" * 20
    one, moved = (DicomSeries("", Path(place), (), "Hi There", key=key) for place in ("/Smith_John", "/elsewhere"))
    (name,), (other,) = name_cases([one]), name_cases([moved])
    assert name.name == other.name == "b0344c61d8db3853"  # test case 1 of RFC 4231
    assert one.identity == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert one.digest(one.place) != moved.digest(moved.place)


def test_the_digest_of_contents_is_keyed_too(tmp_path):
    (tmp_path / "ct.nii").write_bytes(b"contents")
    plain, keyed = (content_sha256(ImageFile("", tmp_path / "ct.nii", key=key)) for key in ("", "0b" * 20))
    blocks = b"8\0contents"
    assert plain == hashlib.sha256(blocks).hexdigest()
    assert keyed == hmac.new(b"\x0b" * 20, blocks, "sha256").hexdigest()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("case", "name", "known_by"),
    [
        (ImageFile("", Path("/in/a.b.nii.gz")), "a.b", "/in/a.b.nii.gz"),
        (DicomSeries("", Path("/in/study.1"), (Path("/in/study.1/1"),), "1.2.3"), "study.1", "1.2.3"),
        (ArchivedImage("", Path("/in/p.zip"), ("x/ct.mhd", "x/ct.raw")), "ct", "/in/p.zip\0x/ct.mhd"),
        (ArchivedSeries("", Path("/in/p.zip"), ("x/1", "x/2"), "1.2.4"), "p", "1.2.4"),
        (MissingSeries("", Path("1.2.840.5")), "1.2.840.5", "1.2.840.5"),
        (Subject("", Path("/in/locked.zip")), "locked", "/in/locked.zip"),
        (DicomSeries("", Path("/"), (Path("/1"),), "1.2.3"), f"series-{sha256('1.2.3')[:8]}", "1.2.3"),
    ],
)
def test_each_kind_has_its_plain_name_and_identity(case, name, known_by):
    assert (case.plain_name, case.identity) == (name, sha256(known_by))


def test_a_hash_of_the_place_tells_two_parts_of_one_series_apart():
    parts = [ArchivedSeries("", Path("/p.zip"), (name,), "1.2.3") for name in ("scan/1", "scout/1")]
    names = [case.name for case in name_cases(parts)]
    own = f"p-{sha256('1.2.3')[:8]}"
    assert names == [own, f"{own}-{sha256('/p.zip' + chr(0) + 'scout/1')[:8]}"]


@pytest.mark.parametrize(
    "case",
    [
        ImageFile("a", Path("/in/caf\udce9.mha")),
        DicomSeries("a", Path("/in"), (Path("/in/1"), Path("/in/2")), "1.2"),
        ArchivedImage("a", Path("/p.zip"), ("ct.mhd", "ct.raw")),
        ArchivedSeries("a", Path("/p.zip"), ("1", "2"), "1.2"),
    ],
)
def test_a_case_survives_as_plain_values(case):
    assert from_tagged(KINDS, json.loads(json.dumps(to_tagged(case)))) == case


def named_otherwise(folder: Path, thorax: Volume) -> Path:
    """A header, and its voxels in a file of another name."""
    folder.mkdir(exist_ok=True)
    sitk.WriteImage(to_sitk(thorax), str(folder / "ct.mhd"))
    header = folder / "ct.mhd"
    header.write_text(header.read_text().replace("ct.raw", "voxels.raw"))
    (folder / "ct.raw").rename(folder / "voxels.raw")
    return header


def test_the_voxels_of_a_header_belong_to_the_case_whatever_their_name(tmp_path, thorax):
    case = ImageFile("", named_otherwise(tmp_path, thorax))
    before = content_sha256(case)
    assert case.files() == [tmp_path / "ct.mhd", tmp_path / "voxels.raw"]
    voxels = (tmp_path / "voxels.raw").read_bytes()
    (tmp_path / "voxels.raw").write_bytes(voxels[:-1] + b"\1")
    assert content_sha256(case) != before


def test_they_are_found_in_an_archive_too(tmp_path, thorax):
    pack(named_otherwise(tmp_path / "in", thorax).parent, tmp_path / "ct.zip")
    (found,) = discover([tmp_path / "ct.zip"])
    assert isinstance(found.case, ArchivedImage)
    (tmp_path / "scratch").mkdir()
    np.testing.assert_array_equal(found.case.open(tmp_path / "scratch").volume.array, thorax.array)
