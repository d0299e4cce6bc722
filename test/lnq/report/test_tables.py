"""Tables and figures of the pages, as text with the value that it is sorted by."""

import dataclasses

import pytest
from helpers.records import DONE_RECORD, changed, failed, scored

from lnq.report.tables import (
    all_versions,
    case_lines,
    duration,
    figures,
    node_lines,
    number,
    size_of,
    summary,
    versions_text,
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.0 s"), (14.33, "14.3 s"), (125, "2 min 5 s"), (8048, "2 h 14 min"), (None, ""), (float("nan"), "")],
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected


def test_numbers():
    assert [number(-0.04), number(-9.6), number(12345.678, 1)] == ["0", "−10", "12\u202f345.7"]


def test_a_node_is_shown_rounded_and_sorted_by_its_value(node_rows):
    (first, _, third), columns = node_lines(node_rows)
    shown = {column.key: cell for column, cell in zip(columns, first.cells, strict=True)}
    assert (shown["short_axis_mm"].text, shown["short_axis_mm"].value) == ("8.4", 8.4)
    assert (shown["mean_hu"].text, shown["mean_hu"].value) == ("−10", -9.6)
    assert (shown["side"].text, shown["side"].numeric) == ("left", False)
    unknown = {column.key: cell for column, cell in zip(columns, third.cells, strict=True)}
    assert [unknown[key].text for key in ("side", "above_carina_mm")] == ["", ""]


def test_agreement_is_shown_where_several_networks_were_run(node_rows):
    assert "agreement" not in [column.key for column in node_lines(node_rows)[1]]
    lines, columns = node_lines([dataclasses.replace(node_rows[0], agreement=0.667), *node_rows[1:]])
    assert columns[-1].key == "agreement"
    assert [line.cells[-1].text for line in lines] == ["0.67", "", ""]


def test_sizes_are_those_of_recist(node_rows):
    axes = {9.9: "small", 10.0: "medium", 14.9: "medium", 15.0: "large"}
    for axis, size in axes.items():
        assert size_of(dataclasses.replace(node_rows[0], short_axis_mm=axis)) == size


def test_scores_have_columns_where_any_case_has_a_truth(node_rows):
    lines, columns = case_lines([DONE_RECORD, failed("b", "It is cut.")], node_rows)
    assert [c.key for c in columns] == ["case", "status", "nodes", "short_axis_mm", "volume_mm3", "seconds", "notes"]
    assert [cell.text for cell in lines[0].cells] == ["3", "24.0", "3.70", "7.7"]
    assert [cell.text for cell in lines[1].cells] == ["", "", "", "0.5"]
    assert (lines[0].kinds, lines[1].kinds, lines[1].notes) == ("done warnings medium large", "failed", 1)
    lines, columns = case_lines([changed(scores=scored(0.5, None)), DONE_RECORD], node_rows)
    assert [c.key for c in columns][5:7] == ["dice", "assd_mm"]
    assert [[cell.text for cell in line.cells][3:5] for line in lines] == [["0.500", ""], ["", ""]]


def test_a_run_is_summed_up(node_rows):
    records = [DONE_RECORD, failed("b", "It is cut."), failed("c", "It is a scout.", "skipped", None)]
    found = {figure.name: figure.text for figure in figures(case_lines(records, node_rows)[0])}
    assert found["cases done"] == found["failed"] == found["skipped"] == "1"
    assert (found["nodes"], found["nodes ≥ 15 mm short axis"], found["computing time"]) == ("3", "1", "8.2 s")


def test_a_case_is_summed_up_in_one_line(node_rows):
    line = "3 nodes found · short axis: 2 ≥ 10 mm, 1 ≥ 15 mm · 3.70 cm³ in all"
    assert summary(DONE_RECORD, node_rows) == line
    assert summary(changed(scores=scored(0.87, 1.391)), node_rows) == f"{line} · Dice 0.870, ASSD 1.39 mm"
    assert summary(changed(nodes=0), []) == "No nodes found"


def test_all_of_a_version_but_hashes_is_shown():
    assert DONE_RECORD.versions is not None
    versions = dataclasses.replace(DONE_RECORD.versions, weights="0123456789abcdef" * 4, mirror="4")
    text = "lnq 0.1.0, model 55d9555c3bab, weights 0123456789ab, backend openvino, device cpu, mirror 4"
    assert versions_text(changed(versions=versions)) == text
    assert versions_text(failed("b", "It is cut.")) == "an unknown version"
    assert all_versions([failed("b", "It is cut."), changed(versions=versions)]) == [f"Made by {text}."]
