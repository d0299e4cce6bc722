"""Runs over many cases: resumed, stopped, killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest
from helpers.batch_runs import command, contents, shifted
from helpers.paths import ROOT

from lnq import cli
from lnq.batch.record import read_manifest
from lnq.image.itk import read_volume, write_volume


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


@pytest.mark.parametrize("keep", [0, *(pytest.param(keep, marks=pytest.mark.slow) for keep in (100, -1))])
def test_a_mask_that_was_cut_off_is_made_again(tmp_path, archive_of_cases, tiny_bundle, keep):
    output = tmp_path / "out"
    arguments = command(archive_of_cases, output, tiny_bundle)
    cli.main(arguments)
    mask = output / "ct0" / "segmentation.mha"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:keep])
    cli.main(arguments)
    assert mask.read_bytes() == whole


def test_a_mask_that_a_person_edited_is_kept_with_a_warning(tmp_path, archive_of_cases, tiny_bundle, capfd):
    output = tmp_path / "out"
    arguments = command(archive_of_cases, output, tiny_bundle)
    cli.main(arguments)
    mask = output / "ct0" / "segmentation.mha"
    found = read_volume(mask)
    write_volume(found.with_array(np.zeros_like(found.array)), mask)
    capfd.readouterr()
    cli.main(arguments)
    assert not read_volume(mask).array.any()
    assert "ct0: an earlier run did it" in capfd.readouterr().out
    assert (
        read_manifest(output)["ct0"].warnings[-1].startswith("The mask was changed after it was written, and is kept")
    )


def test_private_results_are_their_owner_s_alone(tmp_path, archive_of_cases, tiny_bundle):
    before = os.umask(0o022)
    try:
        cli.main(
            ["batch", str(archive_of_cases), "-o", str(tmp_path / "out"), "--model", str(tiny_bundle), "--private"]
        )
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    paths = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert len(paths) > 20
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}


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
        assert read_manifest(tmp_path / "out")["ct"].scores.dice == dice


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


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
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
        assert sorted(record.status for record in manifest.values()) == ["done", "skipped"]
        assert len((tmp_path / "out" / "nodes.csv").read_text().splitlines()) > 1
    if options:
        assert "Smith" not in (tmp_path / "out" / "manifest.jsonl").read_text()


def test_what_is_left_out_is_in_the_manifest_with_the_reason(tmp_path, thorax, tiny_bundle, write_dicom):
    write_dicom(thorax, tmp_path / "in" / "ct")
    write_dicom(thorax, tmp_path / "in" / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert cli.main(command(tmp_path / "in", tmp_path / "out", tiny_bundle)) == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest["ct"].status == "done"
    assert manifest["ct"].series_uid
    assert manifest["scout"].status == "skipped"
    assert manifest["scout"].error == "scout is left out: its only CT images are scout views"


def test_a_result_of_another_version_is_not_replaced_by_another_case(tmp_path, thorax, tiny_bundle):
    output = tmp_path / "out"
    for index in range(2):
        (tmp_path / str(index)).mkdir()
        write_volume(shifted(thorax, index), tmp_path / str(index) / "ct.mha")
    cli.main(command(tmp_path / "0", output, tiny_bundle))
    entry = json.loads((output / "ct" / "case.json").read_text()) | {"colour": "red"}
    (output / "ct" / "case.json").write_text(json.dumps(entry))
    (output / "manifest.jsonl").write_text(json.dumps(entry) + "\n")
    before = contents(output / "ct")
    assert cli.main(command(tmp_path / "1", output, tiny_bundle)) == 0
    assert contents(output / "ct") == before
    lines = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    assert lines[0] == entry
    assert [line["case"][:3] for line in lines] == ["ct", "ct-"]


@pytest.mark.parametrize("change", [{"volume_mm3": "many"}, {"nodes": "x"}, {"warnings": "abc"}, {"seconds": [1]}])
def test_a_record_with_values_of_another_type_is_done_again(tmp_path, thorax, tiny_bundle, change):
    (tmp_path / "in").mkdir()
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    arguments = command(tmp_path / "in", tmp_path / "out", tiny_bundle)
    cli.main(arguments)
    path = tmp_path / "out" / "ct" / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert cli.main(arguments) == 0
    assert json.loads(path.read_text()) | change != json.loads(path.read_text())
