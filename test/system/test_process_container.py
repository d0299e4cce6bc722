"""`process.py` as grand-challenge runs it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from helpers.paths import ROOT

from lnq import cli
from lnq.image.itk import read_volume, write_volume
from lnq.inference.backends import load_model
from lnq.pipeline import segment


def mask_name(name: str) -> str:
    return f"{name.split('.')[0]}.mha"


def test_container_takes_unrelated_names_and_keeps_geometry(tmp_path, thorax, tiny_bundle):
    folder = tmp_path / "in" / "images" / "mediastinal-ct"
    folder.mkdir(parents=True)
    names = ["6f1c2a0e-9f9d-4a5f-8a3e-1d4b1f0c2a77.mha", "6f1c2a0e-0000-4a5f-8a3e-1d4b1f0c2a77.nii.gz"]
    for name in names:
        write_volume(thorax, folder / name)
    out = tmp_path / "out"
    assert cli.main(["--input", f"{tmp_path}/in", "--output", f"{out}", "--model", f"{tiny_bundle}"]) == 0
    for name in names:
        mask = read_volume(out / "images/mediastinal-lymph-node-segmentation" / mask_name(name))
        assert mask.shape == thorax.shape
        assert mask.array.dtype == np.uint8
        np.testing.assert_allclose(mask.affine, thorax.affine, atol=1e-5)
    places = ["--input", f"{tmp_path}/in", "--output", f"{tmp_path}/mirrored", "--model", f"{tiny_bundle}"]
    assert cli.main([*places, "--mirror", "8"]) == 0
    mirrored = read_volume(tmp_path / "mirrored/images/mediastinal-lymph-node-segmentation" / mask_name(names[0]))
    np.testing.assert_array_equal(mirrored.array, segment(thorax, load_model(tiny_bundle, mirror=8)).mask.array)
    results = json.loads((out / "results.json").read_text())
    assert sorted(r["inputs"][0]["filename"] for r in results) == sorted(names)


def test_container_runs_an_ensemble_or_its_first_members(tmp_path, thorax, tiny_ensemble):
    folder = tmp_path / "in" / "images" / "mediastinal-ct"
    folder.mkdir(parents=True)
    write_volume(thorax, folder / "ct.mha")
    for members in (3, 2):
        output = tmp_path / f"out-{members}"
        places = ["--input", f"{tmp_path}/in", "--output", str(output), "--model", str(tiny_ensemble)]
        assert cli.main([*places, "--members", str(members)]) == 0
        (mask,) = (output / "images" / "mediastinal-lymph-node-segmentation").iterdir()
        wanted = segment(thorax, load_model(tiny_ensemble, members=members)).mask.array
        np.testing.assert_array_equal(read_volume(mask).array, wanted)


def test_container_names_equal_stems_apart_and_reads_header_with_voxel_file(tmp_path, thorax, tiny_bundle):
    import SimpleITK as sitk

    from lnq.image.itk import to_sitk

    folder = tmp_path / "in" / "images" / "mediastinal-ct"
    folder.mkdir(parents=True)
    write_volume(thorax, folder / "ct.mha")
    sitk.WriteImage(to_sitk(thorax), str(folder / "ct.mhd"))
    out = tmp_path / "out"
    assert cli.main(["--input", f"{tmp_path}/in", "--output", f"{out}", "--model", f"{tiny_bundle}"]) == 0
    assert len(list((out / "images" / "mediastinal-lymph-node-segmentation").glob("ct-*.mha"))) == 2


def test_a_terminated_container_says_in_its_results_what_is_missing(tmp_path, thorax, tiny_bundle):
    folder, out = tmp_path / "in" / "images" / "mediastinal-ct", tmp_path / "out"
    folder.mkdir(parents=True)
    for number in range(60):
        write_volume(thorax, folder / f"{number:02d}.mha")
    command = [sys.executable, ROOT / "process.py", "--input", tmp_path / "in", "--output", out, "--model", tiny_bundle]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("images/*/[!.]*.mha")):
        assert run.poll() is None
        time.sleep(0.02)
    run.terminate()
    _, errors = run.communicate(timeout=30)
    assert (run.returncode, errors.splitlines()[-1]) == (143, "Stopped by a signal: finished cases are kept")
    results = json.loads((out / "results.json").read_text())
    done = [r["outputs"][0]["filename"] for r in results if r["outputs"]]
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == sorted([*done, "results.json"])
    assert [r["inputs"][0]["filename"] for r in results] == [f"{number:02d}.mha" for number in range(60)]
    left = [r["error_messages"] for r in results if not r["outputs"]]
    assert left == [["Stopped before this CT was segmented"]] * (60 - len(done))


def test_mounted_bundle_wins_unless_empty(tmp_path, monkeypatch):
    monkeypatch.setattr("lnq.inference.bundle.MOUNTED", tmp_path / "mounted")
    options = cli.parser().parse_args(["info"])
    assert cli._bundle(options) == ROOT / "model"
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / ".keep").touch()
    assert cli._bundle(options) == ROOT / "model"
    (tmp_path / "mounted" / "spec.json").touch()
    assert cli._bundle(options) == tmp_path / "mounted"
    assert cli._bundle(cli.parser().parse_args(["info", "--model", "mine"])) == Path("mine")


def test_mounted_bundle_that_cannot_be_read_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("lnq.inference.bundle.MOUNTED", tmp_path)
    monkeypatch.setattr(Path, "iterdir", lambda self: os.listdir("/proc/self/mem"))  # root may read any folder
    assert cli.main(["info"]) == 2
    assert capfd.readouterr().err == f"{tmp_path} cannot be read: Not a directory\n"
