import pytest

from lnq.errors import Damaged
from lnq.image.headers.layout import (
    check_count,
    numbers,
    plain_lines,
    printable,
    voxel_file,
    whole_number,
    whole_numbers,
)


def test_a_headers_text_is_made_fit_for_a_sentence():
    assert printable("ct.raw") == "ct.raw"
    assert printable("a\nb\x1b[2J\0") == "a?b?[2J?"
    assert printable("x" * 100, 10) == "xxxxxxxxxx..."


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1e3", "nan", "0x10", "1_0", "²", "9" * 19, "0"])
def test_a_whole_number_is_one_that_all_readers_understand(text):
    assert whole_number("007", "DimSize", 1) == 7
    with pytest.raises(Damaged, match="^its header gives '.*' for DimSize$"):
        whole_number(text, "DimSize", 1)


@pytest.mark.parametrize(
    "text", ["1 2", "1 2 3 4", "1 2 x", "1 2 nan", "1 2 inf", "1 2 1e400", "1 2 1_0", "1,0 2 3", ""]
)
def test_numbers_are_as_many_as_they_should_be_and_finite(text):
    assert numbers("-1 2.5 .5e-3", "Offset", 3).tolist() == [-1, 2.5, 0.0005]
    with pytest.raises(Damaged, match="^its header gives '.*' for Offset$"):
        numbers(text, "Offset", 3)


def test_sizes_are_one_for_each_dimension():
    assert whole_numbers("100000 5 7", "sizes", 3) == (100000, 5, 7)
    with pytest.raises(Damaged, match="its header gives 2 sizes for 3 dimensions"):
        whole_numbers("4 5", "sizes", 3)


def test_a_voxel_file_may_lie_in_the_headers_folder_or_below(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("ct.raw", "below/ct.raw", "./ct.raw"):
        (tmp_path / name).write_bytes(b"")
        assert voxel_file(tmp_path / "ct.mhd", name).is_file()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/etc/passwd", "its header names a voxel file outside its folder, /etc/passwd"),
        ("../ct.raw", "its header names a voxel file outside its folder, ../ct.raw"),
        ("below/../../ct.raw", "its header names a voxel file outside its folder, below/../../ct.raw"),
        ("LIST", "its voxels lie in several files: merge them into one"),
        ("%d.raw 1 3 1", "its voxels lie in several files: merge them into one"),
        ("below", "its voxel file below is missing"),
        ("", "its voxel file  is missing"),
        ("a\0b\n", r"its voxel file a\?b\? is missing"),
        ("é" * 200, "its voxel file é{60}... is missing"),
    ],
)
def test_other_voxel_files_are_refused(tmp_path, name, problem):
    (tmp_path / "case" / "below").mkdir(parents=True)
    (tmp_path / "ct.raw").write_bytes(b"")
    with pytest.raises(Damaged, match=f"^{problem}$"):
        voxel_file(tmp_path / "case" / "ct.mhd", name)


def test_bytes_are_counted():
    check_count(1000, 1000)
    with pytest.raises(Damaged, match="^it is truncated: 999 of 1,000 bytes are there$"):
        check_count(999, 1000)
    with pytest.raises(Damaged, match="^it holds more than the 1,000 bytes that its header claims$"):
        check_count(1001, 1000)


def test_lines_end_in_lf_or_cr_lf():
    assert plain_lines(b"a: 1\r\nb: 2\n\tc") == [b"a: 1", b"b: 2", b"\tc"]


@pytest.mark.parametrize("sign", [b"\r", b"\x1f", b"\x1c", b"\0", b"\x0b"])
def test_other_control_characters_are_refused(sign):
    with pytest.raises(Damaged, match="^its header holds control characters$"):
        plain_lines(b"# x" + sign + b"data file: y\n")
