"""How benchmarks write what they found."""

import pytest
from matplotlib.figure import Figure

from benchmarks.output import markdown_table, save_figure, write_csv


def test_text_is_aligned_left_and_numbers_right():
    assert markdown_table(("", "way", "s"), [("a", "b", "1"), ("c", "", "")], left=2) == [
        "| | way | s |",
        "| --- | --- | ---: |",
        "| a | b | 1 |",
        "| c | | |",
        "",
    ]


def test_cells_with_commas_and_quotes_are_one_cell(tmp_path):
    write_csv(tmp_path / "t.csv", ("a", "b"), [('x, "y"', 1.5)])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n"x, ""y""",1.5\n'


def test_a_table_that_fails_leaves_the_old_one(tmp_path):
    def rows():
        yield (1,)
        raise ValueError("no more")

    (tmp_path / "t.csv").write_text("old")
    with pytest.raises(ValueError, match="no more"):
        write_csv(tmp_path / "t.csv", ("a",), rows())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("t.csv", "old")]


def test_a_figure_is_a_png(tmp_path):
    save_figure(Figure(figsize=(1, 1)), tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
