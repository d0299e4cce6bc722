"""The page tells what the comparison found, escapes all text, and needs nothing but itself."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

pytest.importorskip("jinja2")

from helpers.rows import CHANGES, FOLLOW_UP

from lnq.followup.change import Size
from lnq.followup.comparison import COMPARISON_PAGE, TargetSum
from lnq.followup.page import write_page
from lnq.followup.register import Alignment
from lnq.followup.time_point import TimePoint, read_time_point

ALIGNMENT = Alignment(np.eye(4), 0.9)


@pytest.fixture
def points(image_results) -> tuple[TimePoint, TimePoint]:
    first, second = map(read_time_point, image_results)
    return first, second


def text_of(folder, follow_up, points) -> str:
    write_page(folder, follow_up, points, ALIGNMENT)
    return (folder / COMPARISON_PAGE).read_text()


def cells(page: str) -> list[list[str]]:
    rows = re.findall(r'<tr data-state="\w+">(.*?)</tr>', page, re.DOTALL)
    return [re.findall(r"<td[^>]*data-value[^>]*>([^<]*)</td>", row) for row in rows]


def test_each_change_has_a_row_and_a_picture(tmp_path, points):
    page = text_of(tmp_path, FOLLOW_UP, points)
    assert cells(page) == [
        ["Lymph node 2 (of Lymph node 2 and Lymph node 3), target", "merged",
         "2, 3 → 1", "7", "15.0\u00a0→ 18.0", "+3.0", "20.0\u00a0→ 25.0",
         "3\u202f000\u00a0→ 3\u202f300", "+10"],
        ["=1+1", "new", "– → 2", "", "–\u00a0→ 5.0", "", "–\u00a0→ 6.0", "–\u00a0→ 100", ""],
        ["Lymph node 1", "gone", "1 → –", "4R", "8.0\u00a0→ –", "", "9.0\u00a0→ –", "300\u00a0→ –", ""],
    ]  # fmt: skip
    assert page.count("data:image/jpeg;base64,") == 3
    assert "first to second" in page and "Mind this." in page and "Not for clinical use" in page


def test_sums_are_told_from_the_first_and_from_the_smallest(tmp_path, points):
    sums = (TargetSum("a", 40.0), TargetSum("b", 25.0), TargetSum("c", 30.0))
    page = text_of(tmp_path, dataclasses.replace(FOLLOW_UP, sums=sums), points)
    table = page[page.index('class="sums"') : page.index("</table>", page.index('class="sums"'))]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", table) == [
        "a", "40.0", "", "", "b", "25.0", "−15.0 mm (−38 %)", "−15.0 mm (−38 %)", "c", "30.0", "−10.0 mm (−25 %)",
        "+5.0 mm (+20 %)",
    ]  # fmt: skip


def test_a_sum_that_a_ct_does_not_show_is_left_out(tmp_path, points):
    sums = (TargetSum("a", 40.0), TargetSum("b", None), TargetSum("c", 30.0))
    page = text_of(tmp_path, dataclasses.replace(FOLLOW_UP, sums=sums), points)
    table = page[page.index('class="sums"') : page.index("</table>", page.index('class="sums"'))]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", table)[4:] == [
        "b", "not all shown", "", "", "c", "30.0", "−10.0 mm (−25 %)", "−10.0 mm (−25 %)",
    ]  # fmt: skip
    text_of(tmp_path, dataclasses.replace(FOLLOW_UP, sums=sums[:2]), points)


def test_without_targets_the_page_says_so(tmp_path, points):
    page = text_of(tmp_path, dataclasses.replace(FOLLOW_UP, sums=()), points)
    assert "there is no sum over target nodes" in page and 'class="sums"' not in page


def test_without_nodes_the_page_says_so(tmp_path, points):
    page = text_of(tmp_path, dataclasses.replace(FOLLOW_UP, changes=()), points)
    assert "No node was found in either CT." in page


def test_text_is_escaped(tmp_path, points):
    hostile = dataclasses.replace(CHANGES[1], later_names=("<script>alert(1)</script>",), after=Size(1.0, 1.0, 1.0))
    page = text_of(tmp_path, dataclasses.replace(FOLLOW_UP, changes=(hostile,), warnings=("<b>",)), points)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page and "&lt;b&gt;" in page


def test_files_and_pages_beside_it_are_linked(tmp_path, points):
    folder = tmp_path / "results"
    (folder / "second" / "report.html").write_text("page")
    (folder / "comparison.csv").write_text("table")
    page = text_of(folder, FOLLOW_UP, points)
    assert re.findall(r'href="([^"]*)"', page) == ["second/report.html", "comparison.csv"]
    assert not re.search(r"(src|href)=\"https?:", page)
