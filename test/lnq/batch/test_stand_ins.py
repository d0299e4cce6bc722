"""Another series of a study is segmented where the chosen one cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.batch_runs import command, contents

from lnq import cli
from lnq.batch.record import read_manifest


@pytest.fixture
def study(tmp_path, thorax, write_dicom) -> Path:
    """A study of three series, of which the best lacks four slices."""
    folder = tmp_path / "in"
    best = write_dicom(thorax, folder / "soft", ConvolutionKernel="B31f")
    write_dicom(thorax, folder / "unknown")
    write_dicom(thorax, folder / "sharp", ConvolutionKernel="B70f")
    for number in (5, 6, 7, 8):
        (best / f"{number:04}.dcm").unlink()
    return folder


def test_the_next_series_stands_in_for_one_that_lacks_slices(tmp_path, study, tiny_bundle, capfd):
    output = tmp_path / "out"
    assert cli.main(command(study, output, tiny_bundle)) == 0
    manifest = read_manifest(output)
    assert {name: record.status for name, record in manifest.items()} == {
        "soft": "skipped",
        "unknown": "done",
        "sharp": "skipped",
    }
    missing = "soft cannot be used: slices are missing: the gaps are 5.00 and 25.00 mm"
    assert manifest["soft"].error == f"{missing}; the series of case unknown was segmented instead"
    assert manifest["unknown"].warnings[0] == f"It stands in for another series: {missing}."
    assert manifest["sharp"].error is not None
    assert "was chosen: the softer kernel" in manifest["sharp"].error
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")][:3] == ["soft", "unknown", "sharp"]
    first = contents(output)
    assert cli.main(command(study, output, tiny_bundle)) == 0
    assert contents(output) == first


def test_a_study_fails_once_where_none_of_its_series_can_be_used(tmp_path, study, tiny_bundle):
    for name in ("unknown", "sharp"):
        for number in (5, 6, 7, 8):
            (study / name / f"{number:04}.dcm").unlink()
    assert cli.main(command(study, tmp_path / "out", tiny_bundle)) == 1
    manifest = read_manifest(tmp_path / "out")
    assert {name: record.status for name, record in manifest.items()} == {
        "soft": "failed",
        "unknown": "skipped",
        "sharp": "skipped",
    }
    assert manifest["unknown"].error is not None
    assert manifest["unknown"].error.endswith("25.00 mm; it was to stand in for soft")


def test_the_next_series_stands_in_for_one_with_a_damaged_file(tmp_path, study, tiny_bundle):
    (study / "soft" / "0005.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    assert cli.main(command(study, tmp_path / "out", tiny_bundle, "--case-names", "hash")) == 0
    done = [record for record in read_manifest(tmp_path / "out").values() if record.is_done]
    (warning,) = (w for w in done[0].warnings if w.startswith("It stands in"))
    assert len(done) == 1
    assert warning.endswith("cannot be used: its file (not shown) is damaged.")


def test_a_done_case_says_why_its_series_was_chosen(tmp_path, study, tiny_bundle, capfd):
    for path in (study / "soft").iterdir():
        path.unlink()
    assert cli.main(command(study, tmp_path / "out", tiny_bundle)) == 0
    why = "chosen before 1 other CT series of its study: the softer kernel"
    assert read_manifest(tmp_path / "out")["unknown"].chosen == why
    assert f"found; {why}\n" in capfd.readouterr().out
