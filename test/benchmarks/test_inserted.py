import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import inserted
from benchmarks.inserted import read_open_places, score_marks
from benchmarks.inserted_table import Mark
from lnq.image.components import label
from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume, make_affine
from lnq.inference.backends import load_model
from lnq.inference.spec import ModelSpec
from lnq.nodes.measure import Landmarks, measure_nodes
from lnq.pipeline import mask_of
from training.scoring.truths import Truth, find_truths


def test_a_mark_counts_for_the_nodes_that_it_touches_and_else_as_another_one():
    truth, marked = np.zeros((10, 20, 20), np.int32), np.zeros((10, 20, 20), np.uint8)
    truth[4, 2:6, 2:6], truth[4, 2:6, 12:16] = 1, 2  # 16 voxels each
    marked[4, 2:6, 2:8] = 1  # 24 voxels: all of the first, and 8 beside it
    marked[4, 2:4, 12:13] = 1  # 2 voxels of the second: an eighth
    marked[8, 10:16, 4:16] = 1  # 6 x 12 mm on its own, 4 slices above the others
    volume = Volume(marked, make_affine((5.0, 1.0, 1.0)))
    hu = np.zeros(marked.shape, np.float32)
    nodes, numbers = measure_nodes(volume, hu, hu, Landmarks(0.0, (0.0, 0.0, 30.0)))
    score = score_marks((0.4, 0.0), nodes, volume.with_array(numbers), volume.with_array(truth), truth > 2)
    assert score.nodes_mm == (4.0, 4.0) and score.found == (True, False)
    assert score.dice == pytest.approx(2 * (16 + 2) / (32 + 24 + 2))
    assert score.others == (Mark(6.0, 10.0),)  # 8 slices of 5 mm lie at 40 mm
    open_places = np.zeros(truth.shape, bool)
    open_places[8, 10, 4] = True  # a voxel of the mark
    score = score_marks((0.4, 0.0), nodes, volume.with_array(numbers), volume.with_array(truth), open_places)
    assert score.others == () and score.found == (True, False)


@pytest.mark.parametrize(("unknown_part", "counts"), [(0.005, True), (0.5, False)])
def test_own_nodes_and_what_a_reader_is_unsure_of_are_open(tmp_path, unknown_part, counts):
    """Of 20 x 50 x 100 voxels. Where half is unknown, nobody said that the rest is background."""
    nodes, label = np.zeros((20, 50, 100), np.int32), np.zeros((20, 50, 100), np.uint8)
    label.ravel()[: int(unknown_part * label.size)] = 2
    nodes[10, :5, :5], label[10, :5, :5], label[15, :5, :5] = 1, 1, 1
    volume = Volume(nodes, make_affine((5.0, 1.0, 1.0)))
    write_volume(volume.with_array(nodes.astype(np.int16)), tmp_path / "a-nodes.nrrd")
    truth = Truth("a", tmp_path / "a-nodes.nrrd", None)
    assert not read_open_places(truth, volume).any()  # no label beside it
    write_volume(volume.with_array(label), tmp_path / "a-seg.nrrd")
    wanted = ((label == 1) & (nodes == 0)) | ((label == 2) & counts)
    np.testing.assert_array_equal(read_open_places(truth, volume), wanted)


def test_thresholds_are_tried_with_peaks_above_them_and_with_the_bundles_own(tiny_bundle):
    spec = dataclasses.replace(ModelSpec.load(tiny_bundle), threshold=0.4, peak_threshold=0.9)
    command = inserted.Inserted((), Path("out"), thresholds=(0.5, 0.3), peaks=(0.0, 0.4, 0.8))
    assert inserted.cuts_of(command, spec) == [
        (0.3, 0.0), (0.3, 0.4), (0.3, 0.8), (0.4, 0.9), (0.5, 0.0), (0.5, 0.8),
    ]  # fmt: skip


def test_a_peak_drops_marks_that_stay_below_it_as_segmenting_does(folder, tiny_bundle):
    """The same marks as when the specification holds the peak."""
    model = load_model(tiny_bundle, "cpu")
    truth = find_truths([folder])[0][0]
    volume = read_volume(folder / "a-ct.mha")
    inferred = inserted.infer(volume, model)
    highest = float(inferred.probability.max())
    cuts = [(0.5 * highest, 0.0), (0.5 * highest, 0.9 * highest), (0.5 * highest, 0.5 * (1.0 + highest))]
    scores = inserted.score_case(truth, model, cuts)
    assert len(scores[0].others) >= len(scores[1].others) >= len(scores[2].others) == 0
    assert not any(scores[2].found) and scores[2].dice == 0.0
    for cut, score in zip(cuts, scores, strict=True):
        spec = dataclasses.replace(model.spec, threshold=cut[0], peak_threshold=cut[1])
        marked = mask_of(inferred, spec).array
        touching = set(np.unique(label(marked)[0][read_volume(truth.path).array > 0])) - {0}
        assert len(score.others) == label(marked)[1] - len(touching)


@pytest.fixture
def folder(tmp_path, thorax):
    """Two cases with an inserted node each, of two CTs."""
    nodes = np.zeros(thorax.shape, np.int16)
    nodes[20:26, 24:30, 28:34] = 1
    for case in ("a", "b"):
        write_volume(thorax, tmp_path / f"{case}-ct.mha")
        write_volume(thorax.with_array(nodes), tmp_path / f"{case}-nodes.mha")
        (tmp_path / f"{case}-info.json").write_text(json.dumps({"background": f"CT {case}"}))
    return tmp_path


def test_command_writes_tables_and_goes_on_where_it_was_stopped(folder, tiny_bundle, monkeypatch, capsys):
    out = folder / "out"
    arguments = [
        str(folder),
        "-o",
        str(out),
        "--models",
        str(tiny_bundle),
        "--thresholds",
        "0.3",
        "0.9",
        "--peaks",
        "0",
    ]
    assert inserted.main([*arguments, "--only", "CT a"]) == 0
    rows = list(csv.DictReader((out / "inserted.csv").read_text().splitlines()))
    assert [(row["case"], row["background"], row["threshold"], row["nodes"]) for row in rows] == [
        ("a", "CT a", threshold, "1") for threshold in ("0.3", "0.5", "0.9")
    ]
    run, infer = [], inserted.infer
    monkeypatch.setattr(inserted, "infer", lambda volume, model: run.append(volume) or infer(volume, model))
    assert inserted.main(arguments) == 0
    assert len(run) == 1  # b alone
    text = (out / "inserted.md").read_text()
    assert "2 cases, made from CT a, CT b." in text and "Nobody knows all of the CTs' own nodes" in text
    assert inserted.COLUMNS[-1] in capsys.readouterr().out


def test_another_specification_of_the_same_weights_is_scored_again(folder, tiny_bundle, tmp_path, monkeypatch):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "other")
    arguments = [str(folder), "-o", str(folder / "out"), "--models", str(bundle), "--only", "CT a"]
    assert inserted.main(arguments) == 0
    spec = ModelSpec.load(bundle)
    rules = dataclasses.replace(spec.postprocess, min_volume_mm3=1.0)
    dataclasses.replace(spec, postprocess=rules).save(bundle)
    run, infer = [], inserted.infer
    monkeypatch.setattr(inserted, "infer", lambda volume, model: run.append(volume) or infer(volume, model))
    assert inserted.main(arguments) == 0
    assert len(run) == 1


def test_a_bad_case_is_left_out_for_every_bundle(folder, tiny_bundle, tiny_ensemble, capsys):
    (folder / "b-ct.mha").write_bytes(b"ObjectType = Image\n")
    out = folder / "out"
    models = ["--models", str(tiny_bundle), str(tiny_ensemble), "--thresholds", "0.3"]
    assert inserted.main([str(folder), "-o", str(out), *models]) == 1
    assert "b is left out: " in capsys.readouterr().err
    rows = list(csv.DictReader((out / "inserted.csv").read_text().splitlines()))
    assert {(row["bundle"], row["case"]) for row in rows} == {(str(tiny_bundle), "a"), (str(tiny_ensemble), "a")}
    assert "1 cases, made from CT a." in (out / "inserted.md").read_text()


def test_what_cannot_be_scored_is_said(folder, tiny_bundle, capsys):
    arguments = [str(folder), "-o", str(folder / "out"), "--models", str(tiny_bundle)]
    assert inserted.main([*arguments, "--only", "CT c"]) == 2
    assert capsys.readouterr().err == "Error: No case has nodes inserted into CT c\n"
    for case in "ab":
        (folder / f"{case}-info.json").unlink()
    assert inserted.main(arguments) == 2
    said = capsys.readouterr().err
    assert f"{folder}/b-info.json does not tell which CT nodes were inserted into" in said.replace("\n", "")
    assert said.endswith("Error: No case could be scored\n") and not (folder / "out").exists()
