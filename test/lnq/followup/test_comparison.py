"""The files of a comparison, read back and by hand."""

from __future__ import annotations

import csv
import json

import pytest
from helpers.rows import CHANGES, FOLLOW_UP

from lnq.errors import StartError
from lnq.followup.comparison import read_json, write_csv, write_json


def test_a_comparison_is_read_back(tmp_path):
    write_json(tmp_path, FOLLOW_UP, "1.0")
    assert read_json(tmp_path) == FOLLOW_UP
    plain = json.loads((tmp_path / "comparison.json").read_text())
    assert (plain["format"], plain["lnq"], plain["notice"]) == (1, "1.0", "Not for clinical use.")


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: "{",
        lambda plain: "[]",
        lambda plain: json.dumps(plain | {"format": 2}),
        lambda plain: json.dumps({k: v for k, v in plain.items() if k != "tracks"}),
        lambda plain: json.dumps(plain | {"changes": [plain["changes"][0] | {"state": "lost"}]}),
        lambda plain: json.dumps(plain | {"overlap": "much"}),
    ],
)
def test_a_damaged_one_is_refused(tmp_path, damage):
    write_json(tmp_path, FOLLOW_UP, "1.0")
    path = tmp_path / "comparison.json"
    path.write_text(damage(json.loads(path.read_text())))
    sentence = f"{path} is damaged, or of another version of lnq: compare those CTs again"
    with pytest.raises(StartError, match=f"^{sentence}$"):
        read_json(tmp_path)


def test_the_table_by_hand(tmp_path):
    write_csv(tmp_path, CHANGES)
    merged, new, gone = csv.DictReader((tmp_path / "comparison.csv").open())
    assert list(merged.values()) == [
        "Lymph node 2", "1.2", "merged", "2 3", "1", "Lymph node 2; Lymph node 3", "Lymph node 2",
        "7", "yes", "15.0", "18.0", "3.0", "20.0", "20.0", "25.0", "5.0",
        "25.0", "3000.0", "3300.0", "300.0", "10.0",
    ]  # fmt: skip
    assert (new["later_nodes"], new["earlier"], new["short_axis_later_mm"], new["short_axis_change_mm"]) == (
        "'=1+1", "", "5.0", "",
    )  # fmt: skip
    assert (gone["later"], gone["volume_earlier_mm3"], gone["volume_later_mm3"]) == ("", "300.0", "")
    assert list(gone)[:11] == [
        "node", "tracking_uid", "state", "earlier", "later", "earlier_nodes", "later_nodes", "station", "target",
        "short_axis_earlier_mm", "short_axis_later_mm",
    ]  # fmt: skip
