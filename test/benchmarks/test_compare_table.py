import csv
import math

import pytest

from benchmarks.compare_plot import limit, plot
from benchmarks.compare_table import comparison_table, rows_of, write_runs
from benchmarks.judge import Verdict
from benchmarks.peers.launch import ContenderRun


@pytest.fixture
def runs(make_run) -> list[ContenderRun]:
    return [
        make_run("lnq", 2.0, 1),
        make_run("monai", 8.0, 1, peak_bytes=300 * 2**20, windows=16),
        make_run("lnq", 9.0, 2),
        make_run("monai", 6.0, 2, peak_bytes=200 * 2**20, windows=16),
        make_run("lnq", 3.0, 3),
        make_run("monai", 5.0, 3, peak_bytes=250 * 2**20, windows=16),
        ContenderRun("nnunet", "a", 1, error="nnunetv2 is not there | really"),
    ]


def columns(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_a_row_holds_medians_and_ratios_to_ours(runs):
    verdicts = {("monai", "a"): Verdict(difference=0.01234567)}
    head, _, ours, monai, _ = columns(comparison_table(rows_of(runs, verdicts)))
    assert ours[head.index("total s")] == "4.00"
    assert monai[head.index("total s") : head.index("total s") + 4] == ["7.00", "1.75", "6.00", "2.00"]
    assert monai[head.index("start s")] == "1.00"
    assert monai[head.index("windows") : head.index("windows") + 4] == ["16", "250", "2.50", "0.01235"]
    assert monai[head.index("CPU time outside the network, %")] == "25.0"
    assert "Dice, own" not in head  # nobody has any
    assert "crop s" not in head


def test_a_contender_that_failed_says_why(runs):
    *_, failed = columns(comparison_table(rows_of(runs, {})))
    assert failed[:2] == ["nnunet", "failed: nnunetv2 is not there / really"]
    assert set(failed[2:]) == {""}


def test_several_cts_are_averaged_over_their_medians(make_run):
    runs = [make_run("lnq", work, repeat, case) for case, works in (("a", (1, 3, 2)), ("b", (6, 4, 20)))
            for repeat, work in enumerate(works, 1)]  # fmt: skip
    verdicts = {("lnq", "a"): Verdict(dice_own=0.5, dice_rules=0.6), ("lnq", "b"): Verdict(dice_own=0.7)}
    (row,) = rows_of(runs, verdicts)
    assert row.work_s == pytest.approx((2 + 6) / 2)
    assert row.verdict.dice_own == pytest.approx(0.6)
    assert math.isnan(row.verdict.dice_rules)
    assert rows_of(runs, verdicts, "b")[0].work_s == 6


def test_the_csv_has_a_row_per_run(runs, tmp_path):
    write_runs(tmp_path / "runs.csv", runs, {("lnq", "a"): Verdict(dice_own=0.5)})
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [row["contender"] for row in rows] == [run.contender for run in runs]
    assert (rows[0]["total_s"], rows[0]["network_s"], rows[0]["crop_s"]) == ("3.000", "2.000", "")
    assert (rows[0]["cpu_outside"], rows[0]["windows"]) == ("0.2500", "4")
    assert (rows[0]["dice_own"], rows[0]["difference"], rows[-1]["error"][:8]) == ("0.500000", "", "nnunetv2")


def test_one_bar_far_longer_than_the_others_is_cut(runs, make_run, tmp_path):
    assert limit([5.0, 4.0]) == 5.0
    assert limit([40.0, 4.0]) == pytest.approx(5.2)
    assert limit([3.0]) == 3.0
    plot(tmp_path / "bars.png", rows_of([*runs, make_run("nnunet-mirror", 100.0)], {}), "title")
    assert (tmp_path / "bars.png").stat().st_size > 1000
