"""Cases: their names, what they are known by from run to run, and that they survive as plain values."""

import hashlib
import json
from pathlib import Path

import pytest

from lnq.archive.case import (
    KINDS,
    ArchivedImage,
    ArchivedSeries,
    DicomSeries,
    ImageFile,
    MissingSeries,
    Subject,
    name_cases,
)
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
    one, moved = (DicomSeries("", Path(place), (), "1.2.3") for place in ("/Smith_John", "/elsewhere"))
    (name,), (other,) = name_cases([one], hash_names=True), name_cases([moved], hash_names=True)
    assert name.name == other.name
    assert len(name.name) == 16
    assert set(name.name) <= set("0123456789abcdef")


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
