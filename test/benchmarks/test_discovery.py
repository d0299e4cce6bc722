"""The benchmark of finding cases, on a small archive."""

from __future__ import annotations

import csv

from benchmarks.discovery import Searched, main, rows_of, search, write_archive


def test_both_readers_parse_each_header_once(tmp_path):
    write_archive(tmp_path, patients=2, slices=10)
    lnq, pydicom = (search(name, tmp_path) for name in ("lnq", "pydicom"))
    assert (lnq.found, lnq.parsed) == (2, 40)
    assert (pydicom.found, pydicom.parsed) == (40, 40)


def test_the_table_holds_medians_and_ratios_worked_out_by_hand():
    runs = {
        "lnq": [Searched(200, 20_000, seconds, 130.4) for seconds in (60.0, 30.0, 45.0)],
        "pydicom": [Searched(20_000, 20_000, seconds, 90.0) for seconds in (30.0, 20.0, 99.0)],
    }
    assert rows_of(runs) == [
        ("lnq", "200", "20,000", "45.0", "1.50", "130"),
        ("pydicom", "20,000", "20,000", "30.0", "1.00", "90"),
    ]


def test_each_run_has_a_process_of_its_own(tmp_path):
    assert main(["--patients", "1", "--slices", "10", "--repeats", "1", "-o", str(tmp_path)]) == 0
    with open(tmp_path / "discovery.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["reader"], row["found"]) for row in rows] == [("lnq", "1"), ("pydicom", "20")]
    assert "# Finding 2 series of 10 slices" in (tmp_path / "discovery.md").read_text()
