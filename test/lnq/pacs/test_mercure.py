"""The processing module of mercure, started as mercure does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from helpers.pacs import write_study
from helpers.paths import ROOT
from pydicom import dcmread

from lnq.errors import StartError
from lnq.pacs.mercure import MercureSettings, read_task


def module(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the container's program with mercure's environment."""
    variables = {"MERCURE_IN_DIR": str(folder / "in"), "MERCURE_OUT_DIR": str(folder / "out")}
    command = [sys.executable, "process.py", "--model", "model", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    for number, path in enumerate(write_study(tmp_path / "in", 1)):
        path.rename(path.with_name(f"1.2.3#1.2.3.{number}.dcm"))  # as mercure names them
    return tmp_path


def test_results_and_their_record_are_handed_on(folder):
    task = {"id": "1", "process": {"module_name": "lnq", "settings": {"results": ["seg", "sr", "pdf"]}}}
    (folder / "in" / "task.json").write_text(json.dumps(task))
    done = module(folder)
    assert done.returncode == 0, done.stderr
    objects = [dcmread(path) for path in sorted((folder / "out").glob("*.dcm"))]
    assert sorted(one.Modality for one in objects) == ["DOC", "SEG", "SR"]
    told = json.loads((folder / "out" / "result.json").read_text())
    assert told["objects"] == 3 and told["nodes"] >= 1 and told["notice"] == "Not for clinical use."
    assert {path.suffix for path in (folder / "out").iterdir()} == {".dcm", ".json"}
    assert "SECRET" not in done.stderr and "Secret" not in done.stderr


def test_a_series_that_cannot_be_segmented_fails_with_its_sentence(folder):
    for number in range(20, 40):
        (folder / "in" / f"1.2.3#1.2.3.{number}.dcm").unlink()
    done = module(folder, "mercure")
    assert done.returncode == 1 and "slices are missing" in done.stderr.splitlines()[-1]
    told = json.loads((folder / "out" / "result.json").read_text())
    assert told["objects"] == 0 and "slices are missing" in told["messages"][0]


def test_folders_that_are_not_there_are_said(tmp_path):
    done = module(tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"MERCURE_IN_DIR is {tmp_path / 'in'}, which is no folder"


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ({}, MercureSettings()),
        ({"process": {}}, MercureSettings()),
        ({"process": {"settings": {"keep_ct": True}}}, MercureSettings(keep_ct=True)),
        ({"process": [{"settings": {"results": ["pdf"]}}, {}]}, MercureSettings(("pdf",))),
    ],
)
def test_settings_are_those_of_the_task(tmp_path, task, wanted):
    (tmp_path / "task.json").write_text(json.dumps(task))
    assert read_task(tmp_path) == wanted


def test_without_a_task_the_settings_are_the_defaults(tmp_path):
    assert read_task(tmp_path) == MercureSettings()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name .*"),
        ('{"process": {"settings": {"resluts": []}}}', "unknown entry 'resluts'"),
        ('{"process": {"settings": {"results": ["png"]}}}', "results must name some of seg, rtstruct, .*"),
        ('{"process": {"settings": [1]}}', "settings is no table"),
        ('{"process": {"settings": {"keep_ct": "yes"}}}', "keep_ct is 'yes'"),
        ("[]", ".*"),
    ],
)
def test_settings_that_cannot_be_used_are_said(tmp_path, text, reason):
    (tmp_path / "task.json").write_text(text)
    with pytest.raises(StartError, match=f"^The settings in task.json cannot be used: {reason}$"):
        read_task(tmp_path)
