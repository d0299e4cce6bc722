"""Every input that must be refused, by the batch and by the container, with the sentence the user gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.bad_files import BAD_FILES, cut_off

from lnq import cli
from lnq.image.itk import write_volume
from lnq.inference.spec import ONNX_NAME


@pytest.fixture
def run(tmp_path, tiny_bundle, capfd):
    """Runs process.py on tmp_path/input; returns its status and the last line on stderr."""

    def run(command: str, bundle: Path = tiny_bundle, output: Path = tmp_path / "output") -> tuple[int, str]:
        places = (
            ["batch", f"{tmp_path}/input", "--no-preview", "--no-report", "-o"]
            if command == "batch"
            else ["--input", f"{tmp_path}/input"]
        )
        places += [] if command == "batch" else ["--output"]
        status = cli.main([*places, str(output), "--model", str(bundle)])
        return status, capfd.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where the container looks for CTs; the batch finds them there too."""
    path = tmp_path / "input" / "images" / "mediastinal-ct"
    path.mkdir(parents=True)
    return path


def results(tmp_path: Path) -> list[dict]:
    return json.loads((tmp_path / "output" / "results.json").read_text())


def manifest(tmp_path: Path) -> dict[str, dict]:
    lines = (tmp_path / "output" / "manifest.jsonl").read_text().splitlines()
    return {entry["case"]: entry for entry in map(json.loads, lines)}


def masks(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "output").rglob("*.mha"))


@pytest.mark.parametrize(("name", "write", "sentence"), BAD_FILES, ids=[b[0] for b in BAD_FILES])
def test_container_refuses(tmp_path, folder, thorax, run, name, write, sentence):
    write(thorax, folder / name)
    status, last_line = run("container")
    assert status == 1
    assert last_line.startswith(sentence)
    (entry,) = results(tmp_path)
    assert entry["outputs"] == []
    assert entry["inputs"] == [{"type": "metaio_image", "filename": name}]
    assert entry["error_messages"] == [last_line]
    assert masks(tmp_path) == []


def test_batch_refuses_all_of_them_and_segments_the_sound_one(tmp_path, folder, thorax, run):
    bad = [b for b in BAD_FILES if b[0] != "notes.txt"]  # only files with an image's extension are cases
    for name, write, _ in bad:
        write(thorax, folder / name)
    write_volume(thorax, folder / "sound.mha")
    status, last_line = run("batch")
    assert status == 1
    assert last_line.startswith(f"{len(bad)} cases failed, the first: ")
    entries = {Path(entry["input"]).name: entry for entry in manifest(tmp_path).values()}
    for name, _, sentence in bad:
        assert entries[name]["status"] == "failed"
        assert entries[name]["mask"] is None
        assert entries[name]["error"].startswith(sentence)
    assert entries["sound.mha"]["status"] == "done"
    assert masks(tmp_path) == ["segmentation.mha"]


@pytest.mark.parametrize("command", ["container", "batch"])
def test_mr_series_is_refused(folder, thorax, run, write_dicom, command):
    write_dicom(thorax, folder / "study", modality="MR")
    status, last_line = run(command)
    assert status == 1
    assert last_line.startswith("study cannot be used: it holds MR images, not a CT")


@pytest.mark.parametrize("command", ["container", "batch"])
def test_empty_folder_cannot_start(folder, run, command):
    status, last_line = run(command)
    assert status == 2
    assert last_line.startswith("No CT found in ")


def test_missing_folder_cannot_start(tmp_path, run):
    status, last_line = run("container")
    assert status == 2
    assert last_line.startswith("No CT found in ")
    assert results(tmp_path)[0]["error_messages"] == [last_line]
    assert run("batch") == (2, f"{tmp_path}/input does not exist: check the path")


@pytest.mark.parametrize("command", ["container", "batch"])
def test_altered_weights_cannot_start(tmp_path, folder, thorax, tiny_bundle, run, command):
    write_volume(thorax, folder / "ct.mha")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in tiny_bundle.iterdir():
        (bundle / file.name).write_bytes(file.read_bytes())
    with (bundle / ONNX_NAME).open("ab") as file:
        file.write(b"\0")
    status, last_line = run(command, bundle=bundle)
    assert status == 2
    assert last_line == f"{bundle / ONNX_NAME} was altered: its SHA-256 is not the one in spec.json"
    if command == "container":
        assert results(tmp_path)[0]["error_messages"] == [last_line]


@pytest.mark.parametrize("command", ["container", "batch"])
def test_missing_bundle_cannot_start(tmp_path, folder, thorax, run, command):
    write_volume(thorax, folder / "ct.mha")
    status, last_line = run(command, bundle=tmp_path / "none")
    assert status == 2
    assert last_line == f"No model bundle in {tmp_path / 'none'}: spec.json is missing"


@pytest.mark.parametrize("command", ["container", "batch"])
def test_output_without_write_permission_cannot_start(tmp_path, folder, thorax, run, command):
    write_volume(thorax, folder / "ct.mha")
    (tmp_path / "file").write_text("in the way")
    status, last_line = run(command, output=tmp_path / "file" / "output")
    assert status == 2
    assert last_line == f"The output folder {tmp_path}/file/output cannot be written: Not a directory"


def test_case_whose_folder_cannot_be_made_fails_alone(tmp_path, folder, thorax, run):
    for name in ("blocked", "free"):
        write_volume(thorax, folder / f"{name}.mha")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "blocked").write_text("in the way")
    status, last_line = run("batch")
    assert status == 1
    blocked = tmp_path / "output" / "blocked"
    sentence = f"blocked.mha could not be segmented: {blocked} is in the way: it is not the result of an earlier run"
    assert last_line.startswith(sentence)
    assert manifest(tmp_path)["free"]["status"] == "done"


def test_container_segments_the_others_beside_a_bad_file(tmp_path, folder, thorax, run):
    write_volume(thorax, folder / "a.mha")
    cut_off(thorax, folder / "b.mha")
    write_volume(thorax, folder / "c.nrrd")
    status, last_line = run("container")
    assert status == 1
    assert last_line.startswith("b.mha cannot be read: it is truncated")
    assert masks(tmp_path) == ["a.mha", "c.mha"]
    assert [bool(e["error_messages"]) for e in results(tmp_path)] == [False, True, False]
