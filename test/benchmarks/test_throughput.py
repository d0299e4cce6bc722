import csv

import pytest

from benchmarks.throughput import commands_of, main, throughput_table
from lnq.image.itk import write_volume


def test_the_table_holds_medians_and_ratios_worked_out_by_hand():
    times = {"alone": [60.0, 90.0, 61.0], "1": [40.0, 50.0, 45.0], "2": [30.5, 30.5, 99.0]}
    assert throughput_table(10, times) == [
        "| run | median s | CTs an hour | times faster |",
        "| --- | ---: | ---: | ---: |",
        "| a process per CT | 61.0 | 590 | 1.00 |",
        "| one run, 1 worker | 45.0 | 800 | 1.36 |",
        "| one run, 2 workers | 30.5 | 1180 | 2.00 |",
        "",
        "10 CTs, each way 3 times.",
        "",
    ]


def test_alone_is_a_process_for_each_ct(tmp_path):
    cts = [tmp_path / "a.mha", tmp_path / "b.mha"]
    assert len(commands_of("alone", cts, tmp_path, [])) == 2
    (one,) = commands_of("2", cts, tmp_path, [])
    assert one[-2:] == ["--workers", "2"]
    assert {str(ct) for ct in cts} <= set(one)


@pytest.mark.slow
def test_runs_are_timed_end_to_end_and_failures_named(tmp_path, thorax, tiny_bundle, capfd):
    cts = [tmp_path / "a.mha", tmp_path / "b.mha"]
    for ct in cts:
        write_volume(thorax, ct)
    places = ["-o", str(tmp_path / "out"), "--repeats", "1", "--workers", "2", "--model", str(tiny_bundle)]
    assert main([*map(str, cts), *places]) == 0
    with open(tmp_path / "out" / "throughput.csv") as file:
        (row,) = csv.DictReader(file)
    assert set(row) == {"alone", "2"}
    assert all(float(value) > 0 for value in row.values())
    cts[0].write_bytes(b"no image")
    assert main([*map(str, cts), *places]) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("Error: a.mha cannot be read: ")
