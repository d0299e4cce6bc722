"""The command `batch`: its options, what it says, and what it keeps to itself."""

from __future__ import annotations

import re
import zipfile

import pytest
from helpers.batch_runs import command

from lnq import cli
from lnq.batch.record import read_manifest
from lnq.image.itk import write_volume


def test_hashed_names_leave_no_name_anywhere(tmp_path, thorax, tiny_bundle, write_dicom, capfd):
    folder = tmp_path / "in" / "Smith_John"
    write_dicom(thorax, folder / "Smith_CT", PatientName="Smith^John", StudyInstanceUID="1.4")
    write_volume(thorax, folder / "Smith.mha")
    write_dicom(thorax, folder / "cut", StudyInstanceUID="1.5")
    (folder / "cut" / "0007.dcm").rename(folder / "cut" / "Smith_0007.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff")
    (folder / "Smith-cut.mha").write_text("no image")
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "Smith.mha").write_text("no image")
    with zipfile.ZipFile(folder / "Smith.zip", "w") as packed:
        packed.write(folder / "Smith.mha", "Smith/John.mha")
    output = tmp_path / "out"
    log = tmp_path / "run.log"
    arguments = ["batch", str(folder), "-o", str(output), "--model", str(tiny_bundle), "--case-names", "hash"]
    assert cli.main([*arguments, "--log", str(log), "--truth", str(tmp_path / "truth")]) == 1
    assert len(list(output.rglob("report.html"))) == 3
    captured = capfd.readouterr()
    manifest = read_manifest(output)
    assert [record.status for record in manifest.values()].count("done") == 2  # the series, and the archive's
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in manifest)
    everything = [captured.out, captured.err, log.read_text()]
    everything += [
        str(p.relative_to(output)) + p.read_bytes().decode("latin-1") for p in output.rglob("*") if p.is_file()
    ]
    assert not [text for text in everything if "Smith" in text or "John" in text]


def test_a_case_that_fails_later_has_no_page_in_the_report(tmp_path, archive_of_cases, tiny_bundle):
    arguments = ["batch", str(archive_of_cases), "-o", str(tmp_path / "out"), "--model", str(tiny_bundle)]
    cli.main([*arguments, "--no-preview"])
    assert 'href="ct1/report.html"' in (tmp_path / "out" / "report.html").read_text()
    (archive_of_cases / "ct1.mha").write_text("no image")
    cli.main([*arguments, "--no-preview"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'href="ct0/report.html"' in page
    assert 'href="ct1/report.html"' not in page


def test_json_mode_writes_the_manifests_lines_and_quiet_mode_nothing(tmp_path, archive_of_cases, tiny_bundle, capfd):
    output = tmp_path / "out"
    assert cli.main(command(archive_of_cases, output, tiny_bundle, "--json")) == 1
    lines = capfd.readouterr().out.splitlines()
    assert sorted(lines) == sorted((output / "manifest.jsonl").read_text().splitlines())
    assert cli.main(command(archive_of_cases, output, tiny_bundle, "--quiet")) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_the_log_has_a_time_for_every_case(tmp_path, archive_of_cases, tiny_bundle):
    log = tmp_path / "run.log"
    cli.main(command(archive_of_cases, tmp_path / "out", tiny_bundle, "--quiet", "--log", str(log)))
    lines = log.read_text().splitlines()
    assert [line for line in lines if re.match(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ INFO ct0: done in ", line)]
    assert [line for line in lines if " ERROR broken: failed: broken.mha cannot be read: " in line]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--workers", "-1"], "--workers must not be negative, as -1 is"),
        (["--time-limit", "-0.5"], "--time-limit must not be negative, as -0.5 is"),
        (["--case-names", "hash", "--sr"], "DICOM results carry the patient's name: --case-names hash goes with "),
        (
            ["--case-names", "hash", "--captures"],
            "DICOM results carry the patient's name: --case-names hash goes with ",
        ),
        (["--case-names", "hash", "--pdf"], "DICOM results carry the patient's name: --case-names hash goes with "),
        (["--series-description", "("], "--series-description ( is not a regular expression: "),
        (["--series-list", "none.csv"], "The list of series none.csv cannot be read: "),
        (["--log", "/proc/none/run.log"], "The log file /proc/none/run.log cannot be written: "),
        (["--scheduler", "tcp://127.0.0.1:9"], "No Dask cluster with a worker answers at tcp://127.0.0.1:9: "),
    ],
)
def test_options_that_cannot_be_used_start_nothing(
    tmp_path, archive_of_cases, tiny_bundle, capfd, monkeypatch, options, sentence
):
    monkeypatch.setattr("lnq.batch.workers.cluster._CONNECT_SECONDS", 1)
    assert cli.main(command(archive_of_cases, tmp_path / "out", tiny_bundle, *options)) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith(sentence)
