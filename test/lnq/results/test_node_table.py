import csv
import dataclasses
import json

import pytest

from lnq.nodes.measure import Node
from lnq.results.node_table import NODES_JSON, nodes_of, read_case_table, rows_of, write_case_table

NODE = Node(
    1, 523.598, 9.94, 12.34, 13.0, "below 10 mm", 61.25, 0.98765, (1.24, -2.0, 300.06), "left", -0.04, station="4L"
)


def test_tables_hold_rounded_numbers(tmp_path):
    write_case_table(tmp_path, rows_of("a", [NODE]))
    with open(tmp_path / "nodes.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == [
        "case", "number", "volume_mm3", "short_axis_mm", "long_axis_mm", "diameter_mm", "short_axis_class",
        "mean_hu", "mean_probability", "l_mm", "p_mm", "s_mm", "side", "above_carina_mm",
        "station",
    ]  # fmt: skip
    assert list(row.values()) == [
        "a", "1", "523.6", "9.9", "12.3", "13.0", "below 10 mm", "61.2", "0.988", "1.2", "-2.0", "300.1", "left", "0.0",
        "4L",
    ]  # fmt: skip


def test_what_is_not_known_is_blank_and_null(tmp_path):
    unknown = dataclasses.replace(NODE, side=None, above_carina_mm=None, station=None)
    write_case_table(tmp_path, rows_of("a", [unknown]))
    assert (tmp_path / "nodes.csv").read_text().splitlines()[1].endswith(",,,")
    (stored,) = json.loads((tmp_path / "nodes.json").read_text())
    assert (stored["side"], stored["above_carina_mm"]) == (None, None)


def test_agreement_has_a_column_where_any_node_has_one(tmp_path):
    agreed = dataclasses.replace(NODE, agreement=2 / 3)
    write_case_table(tmp_path, rows_of("a", [agreed, NODE]))
    with open(tmp_path / "nodes.csv", newline="") as file:
        both = list(csv.DictReader(file))
    assert list(both[0])[-2:] == ["station", "agreement"]
    assert [row["agreement"] for row in both] == ["0.667", ""]
    stored = json.loads((tmp_path / "nodes.json").read_text())
    assert stored[0]["agreement"] == 0.667 and "agreement" not in stored[1]
    assert read_case_table(tmp_path) == rows_of("a", [agreed, NODE])


@pytest.mark.parametrize("nodes", [[], [NODE, NODE]])
def test_a_cases_rows_come_back(tmp_path, nodes):
    write_case_table(tmp_path, rows_of("a", nodes))
    assert read_case_table(tmp_path) == rows_of("a", nodes)
    assert len((tmp_path / "nodes.csv").read_text().splitlines()) == 1 + len(nodes)


@pytest.mark.parametrize("text", [None, "[{", "{}", "[1]", '[{"case": "a"}]'])
def test_a_damaged_or_foreign_table_counts_as_none(tmp_path, text):
    if text is not None:
        (tmp_path / NODES_JSON).write_text(text)
    assert read_case_table(tmp_path) is None


def test_the_nodes_of_a_table_give_the_same_rows_again():
    rows = rows_of("a", [NODE, dataclasses.replace(NODE, number=2, agreement=0.6667)])
    assert rows_of("a", nodes_of(rows)) == rows
