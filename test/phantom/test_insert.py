"""The command that inserts nodes into the CTs of a folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume, make_affine
from phantom import insert
from phantom.insertion.collection import COLUMNS, CREDIT


@pytest.fixture
def shapes(tmp_path) -> Path:
    """A collection of one node, a box of 10 x 9.6 x 8 mm."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    row = ("001_01", 10, 12, 10, 1.0, 0.8, 0.8, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0, 1)
    (folder / "nodes.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(map(str, row)) + "\n")
    np.savez(folder / "masks.npz", **{"001_01": np.packbits(np.ones((10, 12, 10), bool))})
    return folder


def info_of(folder: Path) -> dict:
    return json.loads((folder / "lnq2023-train-9001-info.json").read_text())


def test_command_writes_cases_of_the_challenges_names(tmp_path, without_contrast):
    (tmp_path / "in").mkdir()
    write_volume(without_contrast.ct, tmp_path / "in" / "chest.nii.gz")
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--copies", "1", "--nodes", "6"]
    assert insert.main([*arguments, "--split", "val"]) == 0
    base = tmp_path / "out" / "lnq2023-val-9001"
    ct, seg, nodes = (read_volume(base.with_name(f"{base.name}-{part}.nrrd")) for part in ("ct", "seg", "nodes"))
    assert ct.shape == seg.shape == nodes.shape
    assert nodes.array.max() > 1
    assert np.array_equal(seg.array, nodes.array > 0)
    info = json.loads(base.with_name(f"{base.name}-info.json").read_text())
    assert info["full"] is False and info["background"] == "chest.nii.gz"  # its own nodes are not marked
    assert len(info["nodes"]) == nodes.array.max()


def test_real_shapes_are_named_and_credited(tmp_path, without_contrast, shapes):
    (tmp_path / "in").mkdir()
    write_volume(without_contrast.ct, tmp_path / "in" / "chest.nii.gz")
    arguments = [str(tmp_path / "in"), "--copies", "1", "--nodes", "3", "--seed", "4"]
    assert insert.main([*arguments, "-o", str(tmp_path / "real"), "--shapes", str(shapes)]) == 0
    assert insert.main([*arguments, "-o", str(tmp_path / "parametric")]) == 0
    real, parametric = info_of(tmp_path / "real"), info_of(tmp_path / "parametric")
    assert {node["source"] for node in real["nodes"]} == {"001_01"}
    assert real["credit"] == CREDIT and "10.7937/K9/TCIA.2015.AQIIDCNM" in CREDIT and "CC BY 3.0" in CREDIT
    assert {node["source"] for node in parametric["nodes"]} == {"parametric"}
    assert "credit" not in parametric
    assert real["nodes"][0].keys() == {"label", "short_axis_mm", "centre", "station", "kind", "source", "cluster"}


def test_a_folder_without_shapes_is_refused(tmp_path, capsys):
    (tmp_path / "chest.nii.gz").touch()
    out = tmp_path / "out"
    assert insert.main([str(tmp_path), "-o", str(out), "--shapes", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path} holds no nodes.csv\n"
    assert not out.exists()


def test_a_name_that_is_not_there_is_refused(tmp_path, capsys):
    (tmp_path / "chest.nii.gz").touch()
    arguments = [str(tmp_path), "-o", str(tmp_path / "out"), "--only", "chest.nii.gz", "other"]
    assert insert.main(arguments) == 2
    assert capsys.readouterr().err.strip() == f"{tmp_path} holds no CT named other"


def test_a_folder_without_cts_is_refused(tmp_path, capsys):
    assert insert.main([str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip() == f"{tmp_path} holds no CT to insert nodes into"


def test_a_ct_that_cannot_be_used_is_left_out_and_said(tmp_path, capsys):
    array = np.full((20, 64, 64), 40, dtype=np.int16)
    write_volume(Volume(array, make_affine((5.0, 5.0, 5.0))), tmp_path / "block.nrrd")
    assert insert.main([str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said == "block.nrrd is left out: nodes can only be inserted into a CT with two lungs\n"
    assert list((tmp_path / "out").iterdir()) == []
