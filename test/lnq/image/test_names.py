from pathlib import Path

import pytest

from lnq.image.names import case_of, extension_of, is_label_file, stem


@pytest.mark.parametrize(
    ("name", "extension"),
    [("a.nii.gz", ".nii.gz"), ("a.NII", ".nii"), ("a.b.mha", ".mha"), ("a.dcm", ""), ("nii", ""), (".mha", ".mha")],
)
def test_the_extension_is_an_images(name, extension):
    assert extension_of(name) == extension


@pytest.mark.parametrize(
    ("name", "case"),
    [("lnq-1-ct", "lnq-1"), ("lnq-1-seg", "lnq-1"), ("lnq-1-nodes", "lnq-1"), ("lnq-1", "lnq-1"), ("a-ct-seg", "a-ct")],
)
def test_a_file_tells_its_case(name, case):
    assert case_of(name) == case


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
