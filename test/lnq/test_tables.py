import csv
import json

from lnq.measure import Node
from lnq.tables import write_case, write_run

NODE = Node(1, 523.598, 9.96, 12.34, 13.0, "below 10 mm", 61.25, 0.98765, (1.24, -2.0, 300.06), "left", None)


def test_tables_hold_rounded_numbers_and_blanks_for_what_is_not_known(tmp_path):
    (tmp_path / "a").mkdir()
    write_case(tmp_path / "a", "a", [NODE])
    with open(tmp_path / "a" / "nodes.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == [
        "case", "number", "volume_mm3", "short_axis_mm", "long_axis_mm", "diameter_mm", "short_axis_class",
        "mean_hu", "mean_probability", "l_mm", "p_mm", "s_mm", "side", "above_carina_mm",
    ]  # fmt: skip
    assert list(row.values()) == [
        "a", "1", "523.6", "10.0", "12.3", "13.0", "below 10 mm", "61.2", "0.988", "1.2", "-2.0", "300.1", "left", "",
    ]  # fmt: skip
    (stored,) = json.loads((tmp_path / "a" / "nodes.json").read_text())
    assert stored["short_axis_mm"] == 10.0 and stored["above_carina_mm"] is None


def test_the_runs_table_holds_the_cases_that_have_one(tmp_path):
    for case, nodes in (("a", [NODE, NODE]), ("none", [])):
        (tmp_path / case).mkdir()
        write_case(tmp_path / case, case, nodes)
    write_run(tmp_path, ["a", "none", "gone"])
    with open(tmp_path / "nodes.csv", newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["a", "a"]
    assert (tmp_path / "none" / "nodes.csv").read_text().count("\n") == 1  # the heading
