"""Runs over many cases: resumed, stopped, private, and on a cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.paths import ROOT

import lnq
from lnq import cli
from lnq.batch.run import read_manifest
from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume


def shifted(volume: Volume, index: int) -> Volume:
    """Another CT."""
    return volume.with_array(volume.array + index)


@pytest.fixture
def archive_of_cases(tmp_path, thorax) -> Path:
    """A folder of a few CTs and a broken one."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(4):
        write_volume(shifted(thorax, index), folder / f"ct{index}.mha")
    (folder / "broken.mha").write_text("no image")
    return folder


def command(folder: Path, output: Path, bundle: Path, *options: str) -> list[str]:
    return ["batch", str(folder), "-o", str(output), "--model", str(bundle), "--no-preview", "--no-report", *options]


def contents(output: Path) -> dict[str, bytes]:
    """All files by their path, without what tells times."""
    files = {str(p.relative_to(output)): p.read_bytes() for p in output.rglob("*") if p.is_file()}
    return {name: re.sub(rb'"seconds": [0-9.]+', b"", data) for name, data in files.items()}


def test_the_manifest_is_in_the_order_of_the_cases_however_many_workers(tmp_path, archive_of_cases, tiny_bundle):
    for workers in ("1", "3"):
        output = tmp_path / workers
        options = ["--workers", workers, "--threads", "1"]  # other threads add in another order
        assert cli.main(command(archive_of_cases, output, tiny_bundle, *options)) == 1
        assert list(read_manifest(output)) == ["broken", "ct0", "ct1", "ct2", "ct3"]
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_a_case_is_done_again_when_its_contents_changed_and_not_when_it_was_only_touched(
    tmp_path, archive_of_cases, thorax, tiny_bundle, capfd
):
    arguments = command(archive_of_cases, tmp_path / "out", tiny_bundle)
    cli.main(arguments)
    os.utime(archive_of_cases / "ct0.mha")
    write_volume(shifted(thorax, 7), archive_of_cases / "ct1.mha")
    capfd.readouterr()
    cli.main(arguments)
    text = capfd.readouterr().out
    assert "ct0: an earlier run did it" in text
    assert "ct1: done in " in text


def test_another_option_makes_it_again(tmp_path, archive_of_cases, tiny_bundle):
    output = tmp_path / "out"
    cli.main(command(archive_of_cases, output, tiny_bundle))
    cli.main(command(archive_of_cases, output, tiny_bundle, "--probability"))
    probability = read_volume(output / "ct0" / "probability.mha")
    mask = read_volume(output / "ct0" / "segmentation.mha")
    assert probability.array.dtype == np.float32
    assert (probability.array[mask.array > 0] >= 0.5).all()
    cli.main(command(archive_of_cases, output, tiny_bundle))
    assert not (output / "ct0" / "probability.mha").exists()


def test_an_archive_that_grows_keeps_the_names_of_its_cases(tmp_path, thorax, tiny_bundle, write_dicom, capfd):
    write_dicom(thorax, tmp_path / "in" / "p1" / "CT", StudyInstanceUID="1.1")
    cli.main(command(tmp_path / "in", tmp_path / "out", tiny_bundle))
    write_dicom(shifted(thorax, 1), tmp_path / "in" / "p2" / "CT", StudyInstanceUID="1.2")
    capfd.readouterr()
    cli.main(command(tmp_path / "in", tmp_path / "out", tiny_bundle))
    assert "CT: an earlier run did it" in capfd.readouterr().out
    first, second = read_manifest(tmp_path / "out")
    assert (first, second[:3]) == ("CT", "CT-")


def test_another_truth_is_another_score(tmp_path, thorax, tiny_bundle):
    (tmp_path / "in").mkdir()
    (tmp_path / "truth").mkdir()
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    arguments = command(tmp_path / "in", tmp_path / "out", tiny_bundle)
    cli.main(arguments)
    mask = read_volume(tmp_path / "out" / "ct" / "segmentation.mha")
    for truth, dice in ((mask, 1.0), (mask.with_array(np.zeros_like(mask.array)), 0.0)):
        write_volume(truth, tmp_path / "truth" / "ct.mha")
        cli.main([*arguments, "--truth", f"{tmp_path}/truth"])
        assert read_manifest(tmp_path / "out")["ct"]["dice"] == dice


def test_what_is_not_the_programs_own_stays(tmp_path, thorax, tiny_bundle):
    (tmp_path / "in").mkdir()
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    own = [tmp_path / "out" / ".work" / "mine.txt", tmp_path / "out" / "ct" / "case.json"]
    for path in own:
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    assert cli.main(command(tmp_path / "in", tmp_path / "out", tiny_bundle)) == 1
    assert all(path.read_text() == "{}" for path in own)


def test_two_runs_cannot_write_to_one_folder(tmp_path, archive_of_cases, tiny_bundle, capfd):
    import fcntl

    output = tmp_path / "out"
    output.mkdir()
    with open(output / ".lnq-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main(command(archive_of_cases, output, tiny_bundle)) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == f"Another run is writing to {output}: wait for it, or choose another folder"


def start(arguments: list[str]) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, str(ROOT / "process.py"), *arguments], text=True, **pipes)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_drops_the_current_case_and_the_same_command_goes_on(
    tmp_path, archive_of_cases, tiny_bundle, number, status
):
    output = tmp_path / "out"
    arguments = command(archive_of_cases, output, tiny_bundle, "--workers", "1")
    run = start(arguments)
    assert run.stdout is not None
    while not run.stdout.readline().startswith("ct0: done"):
        assert run.poll() is None
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == status
    assert errors.splitlines()[-1] == "Stopped: finished cases are kept, the same command goes on from there"
    assert not (output / ".lnq-work").exists()
    kept = {p.parent.name for p in output.glob("*/case.json")}
    assert "ct0" in kept
    cli.main(arguments)
    cli.main(command(archive_of_cases, tmp_path / "whole", tiny_bundle, "--workers", "1"))
    assert contents(output) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_killed_at_ten_random_moments_ends_like_one_that_was_left_alone(tmp_path, archive_of_cases, tiny_bundle):
    cli.main(command(archive_of_cases, tmp_path / "whole", tiny_bundle))
    output, rng = tmp_path / "out", np.random.default_rng(0)
    for _ in range(10):
        run = start(command(archive_of_cases, output, tiny_bundle, "--workers", "2"))
        time.sleep(rng.uniform(0.3, 6.0))
        run.kill()
        run.communicate()
        for folder in output.glob("*/"):  # whatever has its final name is whole
            if not folder.name.startswith("."):
                assert contents(folder) == contents(tmp_path / "whole" / folder.name)
        if len(list(output.glob("*/case.json"))) == 4:
            shutil.rmtree(output / "ct2")  # so that there is something to do
    assert cli.main(command(archive_of_cases, output, tiny_bundle)) == 1
    assert contents(output) == contents(tmp_path / "whole")


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
    assert [entry["status"] for entry in manifest.values()].count("done") == 2  # the series, and the archive's
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in manifest)
    everything = [captured.out, captured.err, log.read_text()]
    everything += [
        str(p.relative_to(output)) + p.read_bytes().decode("latin-1") for p in output.rglob("*") if p.is_file()
    ]
    assert not [text for text in everything if "Smith" in text or "John" in text]


@pytest.mark.parametrize("options", [[], ["--case-names", "hash"]])
def test_a_scan_and_its_scout_view_of_one_series_are_two_cases(tmp_path, thorax, tiny_bundle, write_dicom, options):
    folder = write_dicom(thorax, tmp_path / "in" / "Smith")
    other = write_dicom(thorax.crop((slice(0, 2), slice(None), slice(None))), tmp_path / "scout")
    for number, file in enumerate(sorted(other.iterdir())):
        scout = pydicom.dcmread(file)
        scout.SeriesInstanceUID = pydicom.dcmread(folder / "0001.dcm").SeriesInstanceUID
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        scout.save_as(folder / f"scout{number}.dcm")
    for _ in range(2):
        assert cli.main(command(tmp_path / "in", tmp_path / "out", tiny_bundle, *options)) == 0
        manifest = read_manifest(tmp_path / "out")
        assert sorted(entry["status"] for entry in manifest.values()) == ["done", "skipped"]
        assert len((tmp_path / "out" / "nodes.csv").read_text().splitlines()) > 1
    if options:
        assert "Smith" not in (tmp_path / "out" / "manifest.jsonl").read_text()


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
    assert {json.loads(line)["case"]: json.loads(line) for line in lines} == read_manifest(output)
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


def test_what_is_left_out_is_in_the_manifest_with_the_reason(tmp_path, thorax, tiny_bundle, write_dicom):
    write_dicom(thorax, tmp_path / "in" / "ct")
    write_dicom(thorax, tmp_path / "in" / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert cli.main(command(tmp_path / "in", tmp_path / "out", tiny_bundle)) == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest["ct"]["status"] == "done"
    assert manifest["ct"]["series_uid"]
    assert manifest["scout"]["status"] == "skipped"
    assert manifest["scout"]["error"] == "scout is left out: its only CT images are scout views"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--workers", "-1"], "--workers must not be negative, as -1 is"),
        (["--time-limit", "-0.5"], "--time-limit must not be negative, as -0.5 is"),
        (["--case-names", "hash", "--sr"], "DICOM results carry the patient's name: --case-names hash goes with "),
        (["--series-description", "("], "--series-description ( is no expression: "),
        (["--series-list", "none.csv"], "The list of series none.csv cannot be read: "),
        (["--log", "/proc/none/run.log"], "The log file /proc/none/run.log cannot be written: "),
        (["--scheduler", "tcp://127.0.0.1:9"], "No Dask cluster with a worker answers at tcp://127.0.0.1:9: "),
    ],
)
def test_options_that_cannot_be_used_start_nothing(
    tmp_path, archive_of_cases, tiny_bundle, capfd, monkeypatch, options, sentence
):
    monkeypatch.setattr("lnq.batch.cluster._CONNECT_SECONDS", 1)
    assert cli.main(command(archive_of_cases, tmp_path / "out", tiny_bundle, *options)) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith(sentence)


def test_workers_of_an_older_version_are_named(tmp_path, archive_of_cases, tiny_bundle, capfd, monkeypatch):
    distributed = pytest.importorskip("distributed")

    class OldWorkers:
        def __init__(self, *_, **__):
            pass

        def wait_for_workers(self, *_, **__):
            pass

        def submit(self, *_, **__):
            answer = Future()
            answer.set_exception(TypeError("Settings.__init__() got an unexpected keyword argument 'mirror'"))
            return answer

        def close(self):
            pass

    monkeypatch.setattr(distributed, "Client", OldWorkers)
    arguments = command(archive_of_cases, tmp_path / "out", tiny_bundle, "--scheduler", "tcp://old:1")
    assert cli.main(arguments) == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"The cluster's workers have another version than this, {lnq.__version__}: "
        "Settings.__init__() got an unexpected keyword argument 'mirror'"
    )


@pytest.mark.slow
def test_a_cluster_gives_what_this_machine_does(tmp_path, archive_of_cases, tiny_bundle):
    distributed = pytest.importorskip("distributed")
    cli.main(command(archive_of_cases, tmp_path / "here", tiny_bundle))
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        arguments = command(archive_of_cases, tmp_path / "there", tiny_bundle, "--scheduler", cluster.scheduler_address)
        assert cli.main(arguments) == 1
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


@pytest.mark.parametrize("format", ["dicom-seg", "rtstruct"])
def test_dicom_results_of_a_series_refer_to_it(tmp_path, thorax, tiny_bundle, write_dicom, format):
    pytest.importorskip("highdicom")
    write_dicom(thorax, tmp_path / "in" / "series")
    write_volume(thorax, tmp_path / "in" / "file.mha")
    arguments = command(tmp_path / "in", tmp_path / "out", tiny_bundle, "--format", format, "--sr")
    assert cli.main(arguments) == 1
    manifest = read_manifest(tmp_path / "out")
    assert manifest["file"]["error"] == (
        "file.mha is no DICOM series: its result cannot be DICOM, choose another --format"
    )
    assert manifest["series"]["mask"] == "series/segmentation.dcm"
    mask, report = (pydicom.dcmread(tmp_path / "out" / "series" / f"{name}.dcm") for name in ("segmentation", "nodes"))
    assert (mask.Modality, report.Modality) == ({"dicom-seg": "SEG", "rtstruct": "RTSTRUCT"}[format], "SR")
    assert mask.StudyInstanceUID == report.StudyInstanceUID == "1.2.3"
    parts = mask.SegmentSequence if format == "dicom-seg" else mask.StructureSetROISequence
    assert len(parts) == manifest["series"]["nodes"] > 0
