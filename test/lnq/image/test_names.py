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


def test_a_label_is_told_by_the_ct_beside_it():
    names = {"x-ct.nrrd", "x-seg.nrrd", "y-seg.nrrd", "x-seg.mha"}
    assert [name for name in sorted(names) if is_label_file(name, names)] == ["x-seg.nrrd"]


def test_a_name_that_is_all_extension_stays():
    assert stem(Path(".mha")) == ".mha"
    assert stem(Path("a.nii.gz")) == "a"
