from __future__ import annotations

from helpers.shown_cases import marked, measured, shown, source

from training.dataset_page.cases import ShownCase
from training.dataset_page.suspicions import find_suspicions
from training.dataset_page.table import case_rows, columns, filters


def test_a_row_holds_a_cell_for_each_column() -> None:
    case = shown("a", measured(source=source(short_axes_mm=(9.0, 12.5))), notes=("it is odd",))
    (row,) = case_rows([case], [], {"a": "data:x"})
    assert len(row.cells) == len(columns()) - 2
    assert [cell.text for cell in row.cells] == [
        "partial", "train", "1", "12.5", "0.90", "150", "2.50", "0.80", "350", "80"
    ]  # fmt: skip
    assert (row.picture, row.notes, row.suspicions) == ("data:x", ["it is odd"], [])
    assert row.kinds.split() == ["partial", "contrast", "plain"]


def test_what_was_not_measured_stays_blank() -> None:
    case = ShownCase(shown().folder, shown().info, None, None, "")
    (row,) = case_rows([case], [], {})
    assert [cell.value for cell in row.cells[3:]] == ["", 0.9, "", "", "", "", ""]
    assert row.picture is None and "unclear" in row.kinds


def test_the_table_can_be_filtered_by_what_there_is() -> None:
    cases = [
        shown("a", measured(nodes=(marked(air=0.9),))),
        shown("b", measured(blood_hu=40.0), full=True),
        shown("c", told=True),
    ]
    rows = case_rows(cases, find_suspicions(cases), {})
    assert rows[0].suspicions == ["Label in air or lung?"]
    counts = {key: count for key, _, count in filters(rows)}
    assert counts.pop("all") == 3 and counts.pop("plain") == counts.pop("contrast") == 2
    assert counts == {"suspect": 1, "air": 1, "partial": 1, "full": 1, "three-states": 1, "native": 1}
