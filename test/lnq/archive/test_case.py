from pathlib import Path

import pytest

from lnq.archive.case import Case, attempt, hashed_name, name_cases
from lnq.errors import ImageError
from lnq.files import prepare_output
from lnq.image.names import is_label_file, stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("a.b.mha", "a.b"), ("A.NRRD", "A"), ("scan.tif", "scan"), (".mha", ".mha")],
)
def test_stem_is_the_name_without_an_images_extension(name, expected):
    assert stem(Path("some") / name) == expected


def test_stem_of_a_folder_is_its_name(tmp_path):
    (tmp_path / "series.1.2").mkdir()
    assert stem(tmp_path / "series.1.2") == "series.1.2"


def test_labels_are_told_by_the_ct_beside_them():
    names = {"x-ct.nrrd", "x-seg.nrrd", "x-nodes.nrrd", "y-seg.nrrd", "x-seg.mha"}
    assert {name for name in names if is_label_file(name, names)} == {"x-seg.nrrd", "x-nodes.nrrd"}


def test_equal_names_get_the_hash_of_their_paths():
    cases = [Case("", Path(path)) for path in ("/one/ct.mha", "/two/CT.nrrd", "/other.mha")]
    names = [case.name for case in name_cases(cases)]
    assert names == [hashed_name(cases[0]), hashed_name(cases[1]), "other"]
    assert names[0].startswith("ct-")
    assert len(names[0]) == len("ct-") + 8
    assert name_cases(cases[2:], taken=["OTHER"])[0].name == hashed_name(cases[2])


def test_members_of_an_archive_have_their_own_names():
    members = [Case("", Path("/a.zip"), (name,)) for name in ("in/x.mha", "y.nii.gz")]
    assert [case.name for case in name_cases(members)] == ["x", "y"]


def test_hashed_names_tell_nothing_and_stay_the_same_wherever_a_series_lies():
    one, moved = (Case("", Path(place), dicom=True, series_uid="1.2.3") for place in ("/Smith_John", "/elsewhere"))
    (name,), (other,) = name_cases([one], hash_names=True), name_cases([moved], hash_names=True)
    assert name.name == other.name
    assert len(name.name) == 16
    assert set(name.name) <= set("0123456789abcdef")


def test_output_folder_is_made_and_left_clean(tmp_path):
    prepare_output(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ImageError("ct.mha cannot be used: reason"), "ct.mha cannot be used: reason"),
        (MemoryError(), "ct.mha could not be segmented: there is not enough memory for it"),
        (
            OSError(28, "No space left on device", "/out/x.mha"),
            "ct.mha could not be segmented: No space left on device: /out/x.mha",
        ),
        (
            PermissionError("/out cannot be written to"),
            "ct.mha could not be segmented: /out cannot be written to",
        ),
        (KeyError("a\nb"), "ct.mha could not be segmented: KeyError: 'a\\nb'"),
    ],
)
def test_failure_becomes_one_sentence(error, sentence):
    def work() -> None:
        raise error

    assert attempt(Path("/in/ct.mha"), work) == sentence


def test_success_is_no_sentence():
    assert attempt(Path("ct.mha"), lambda: None) is None
