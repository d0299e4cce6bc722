"""The command that inserts nodes into the CTs of a folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume, make_affine
from phantom import insert
from phantom.insertion.collection import COLUMNS, CREDIT
from training.data.sources.find import find_cases, read_states


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


def test_what_a_label_says_of_the_ct_stays(tmp_path, without_contrast):
    """A label with the CT's head down: rows of background, a node, and a part that is unknown."""
    ct = without_contrast.ct
    states = np.zeros(ct.shape, np.uint8)
    states[:5], states[5:7, 10:14, 10:14] = 2, 1
    down = np.array([[-1, 0, 0, ct.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])  # of index z, y, x
    for folder in ("in", "labels"):
        (tmp_path / folder).mkdir()
    write_volume(ct, tmp_path / "in" / "chest.nii.gz")
    write_volume(Volume(states[::-1].copy(), ct.affine @ down), tmp_path / "labels" / "chest.nrrd")
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--copies", "1", "--nodes", "2"]
    assert insert.main([*arguments, "--labels", str(tmp_path / "labels")]) == 0
    base = tmp_path / "out" / "lnq2023-train-9001"
    seg, nodes = (read_volume(base.with_name(f"{base.name}-{part}.nrrd")).array for part in ("seg", "nodes"))
    assert nodes.max() > 0
    np.testing.assert_array_equal(seg, np.where(nodes > 0, 1, states))
    assert info_of(tmp_path / "out")["unknown"] == 2 and info_of(tmp_path / "out")["full"] is False
    (case,) = find_cases([tmp_path / "out"])
    np.testing.assert_array_equal(read_states(case)[1].array, seg)
    states[:5] = 0
    write_volume(ct.with_array(states), tmp_path / "labels" / "chest.nrrd")
    assert insert.main([*arguments, "--labels", str(tmp_path / "labels")]) == 0
    assert info_of(tmp_path / "out")["full"] is True


def test_labels_that_do_not_fit_leave_the_ct_out(tmp_path, without_contrast, capsys):
    ct = without_contrast.ct
    for folder in ("in", "labels"):
        (tmp_path / folder).mkdir()
    write_volume(ct, tmp_path / "in" / "chest.nii.gz")
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--labels", str(tmp_path / "labels")]
    assert insert.main(arguments) == 1
    assert capsys.readouterr().err == f"chest.nii.gz is left out: {tmp_path}/labels has no label named chest\n"
    label = tmp_path / "labels" / "chest.mha"
    moved = ct.affine.copy()
    moved[0, 3] += 0.5
    write_volume(Volume(np.zeros(ct.shape, np.uint8), moved), label)
    assert insert.main(arguments) == 1
    assert capsys.readouterr().err == "chest.nii.gz is left out: chest.mha lies on another grid than its CT\n"
    write_volume(ct.with_array(np.full(ct.shape, 3, np.uint8)), label)
    assert insert.main(arguments) == 1
    sentence = "chest.mha has other values than 0 background, 1 node and 2 unknown"
    assert capsys.readouterr().err == f"chest.nii.gz is left out: {sentence}\n"


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


@pytest.mark.parametrize("only", [[], ["--only", "block"], ["--only", "block.nrrd"]])
def test_a_ct_that_cannot_be_used_is_left_out_and_said(tmp_path, capsys, only):
    array = np.full((20, 64, 64), 40, dtype=np.int16)
    write_volume(Volume(array, make_affine((5.0, 5.0, 5.0))), tmp_path / "block.nrrd")
    assert insert.main([str(tmp_path), "-o", str(tmp_path / "out"), *only]) == 1
    said = capsys.readouterr().err
    assert said == "block.nrrd is left out: nodes can only be inserted into a CT with two lungs\n"
    assert list((tmp_path / "out").iterdir()) == []
