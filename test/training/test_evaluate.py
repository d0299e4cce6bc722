from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lnq import pipeline
from lnq.spec import ModelSpec
from lnq.volume import Volume, make_affine, write_volume
from training.evaluate import by_size, find_truths, main, read_instances, replace_missing_assd, score, summary

GRID = Volume(np.zeros((20, 40, 40), np.int32), make_affine((2.0, 1.0, 1.0)))


def cube(value: int, z: slice, y: slice, x: slice, array: np.ndarray | None = None) -> np.ndarray:
    out = np.zeros(GRID.shape, np.int32) if array is None else array
    out[z, y, x] = value
    return out


@pytest.fixture
def truth() -> Volume:
    """Two nodes of 10 x 10 mm and 4 x 4 mm in the slice."""
    array = cube(1, np.s_[4:9], np.s_[5:15], np.s_[5:15])
    return GRID.with_array(cube(2, np.s_[12:14], np.s_[25:29], np.s_[25:29], array))


def test_scores_of_a_case(truth: Volume) -> None:
    found = cube(1, np.s_[4:9], np.s_[5:15], np.s_[5:10])  # half of the large node
    found = cube(1, np.s_[16:18], np.s_[2:6], np.s_[30:34], found)  # a false component
    result = score("a", truth.with_array(found.astype(np.uint8)), truth, seconds=1.0)
    assert result.dice == pytest.approx(2 * 250 / (250 + 32 + 500 + 32))
    assert (result.nodes, result.large_nodes, result.large_found) == (2, 1, 1)
    assert result.false_components == 1
    assert result.true_mm3 == 532 * 2.0 and result.predicted_mm3 == 282 * 2.0


def test_empty_prediction_gets_the_largest_assd_of_the_set(truth: Volume) -> None:
    nothing = truth.with_array(np.zeros(truth.shape, np.uint8))
    half = truth.with_array(cube(1, np.s_[4:9], np.s_[5:15], np.s_[5:10]).astype(np.uint8))
    results = [score(n, m, truth, 1.0) for n, m in (("none", nothing), ("half", half), ("same", truth))]
    replaced = replace_missing_assd(results)
    assert math.isnan(results[0].assd_mm)
    assert replaced[0].assd_mm == results[1].assd_mm and replaced[0].assd_replaced
    assert replaced[2].assd_mm == 0.0
    numbers = summary(replaced)
    assert numbers["replaced_assd"] == 1 and numbers["cases"] == 3
    assert numbers["large_nodes_found"] == pytest.approx(2 / 3)
    assert math.isnan(summary(replace_missing_assd(results[:1]))["mean_assd_mm"])


def test_detection_is_counted_by_short_axis(truth: Volume) -> None:
    rows = by_size([score("a", truth.with_array((truth.array == 2).astype(np.uint8)), truth, 1.0)])
    counts = {(row["from_mm"], row["to_mm"]): (row["nodes"], row["found"]) for row in rows}
    assert counts[(0.0, 5.0)] == (1, 1)
    assert counts[(8.0, 10.0)][0] + counts[(10.0, 15.0)][0] == 1
    assert sum(found for _, found in counts.values()) == 1


def test_instances_come_from_the_nodes_file_before_the_labels(tmp_path: Path, truth: Volume) -> None:
    for kind in ("ct", "seg", "nodes"):
        write_volume(truth.with_array(truth.array.astype(np.int16)), tmp_path / f"a-{kind}.nrrd")
    write_volume(truth.with_array((truth.array > 0).astype(np.uint8)), tmp_path / "b-seg.nrrd")
    write_volume(truth.with_array(truth.array.astype(np.int16)), tmp_path / "b-ct.nrrd")
    (_, _, first), (_, _, second) = find_truths([tmp_path])
    assert (first.name, second.name) == ("a-nodes.nrrd", "b-seg.nrrd")
    assert read_instances(first).array.max() == 2
    assert read_instances(second).array.max() == 2  # two components


def test_ct_without_truth_is_refused(tmp_path: Path, truth: Volume) -> None:
    write_volume(truth.with_array(truth.array.astype(np.int16)), tmp_path / "a-ct.nrrd")
    with pytest.raises(ValueError, match=r"neither a-nodes.nrrd nor a-seg.nrrd"):
        find_truths([tmp_path])
    with pytest.raises(ValueError, match=r"No file named"):
        find_truths([tmp_path / "nothing"])


@pytest.fixture
def scored(tmp_path: Path, make_thorax: Callable[..., Volume], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one CT and its truth, and a network that is 80 % sure of the node and 60 % of its surroundings."""
    ct = make_thorax()
    index = np.indices(ct.shape).reshape(3, -1)
    position = (ct.affine[:3, :3] @ index + ct.affine[:3, 3:]) - np.array([0, 0, 40.0])[:, None]
    distance = np.linalg.norm(position, axis=0).reshape(ct.shape)
    hu = np.where(distance < 24, 70, ct.array).astype(np.int16)
    folder = tmp_path / "cases"
    folder.mkdir()
    write_volume(ct.with_array(hu), folder / "a-ct.nrrd")
    write_volume(ct.with_array((distance < 12).astype(np.uint8)), folder / "a-seg.nrrd")
    probability = np.where(distance < 12, 0.8, np.where(distance < 20, 0.6, 0.0)).astype(np.float32)

    def known(image: np.ndarray, *_: object) -> np.ndarray:
        return image * 0

    def on_the_crop(array: np.ndarray, source: Volume, target: Volume) -> np.ndarray:
        if source.array is array:
            return original(array, source, target)
        ready = pipeline.find_crop(ct.with_array(hu))
        return probability[ready.box]

    original = pipeline.resample_array_to
    monkeypatch.setattr(pipeline, "sliding_window", known)
    monkeypatch.setattr(pipeline, "resample_array_to", on_the_crop)
    return folder


def test_tuned_threshold_is_the_best_and_is_stored(scored: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    bundle, output = tmp_path / "model", tmp_path / "results"
    shutil.copytree(tiny_bundle, bundle)
    assert main([str(scored), "--model", str(bundle), "-o", str(output), "--tune-threshold", "--device", "cpu"]) == 0
    spec = ModelSpec.load(bundle)
    assert 0.6 < spec.threshold <= 0.8
    assert spec.provenance["threshold"]["cases"] == ["a"]
    assert spec.sha256 == ModelSpec.load(tiny_bundle).sha256
    with open(output / "thresholds.csv") as file:
        sweep = {float(row["threshold"]): float(row["mean_dice"]) for row in csv.DictReader(file)}
    assert sweep[0.7] == pytest.approx(1.0) and sweep[0.5] < 0.5 and sweep[0.9] == 0.0
    content = json.loads((output / "summary.json").read_text())
    assert content["threshold"] == spec.threshold and content["mean_dice"] == pytest.approx(1.0)


def test_scoring_uses_the_threshold_of_the_bundle_or_the_given_one(
    scored: Path, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(scored), "--model", str(tiny_bundle), "--device", "cpu", "-o"]
    assert main([*common, str(tmp_path / "half")]) == 0
    assert main([*common, str(tmp_path / "given"), "--threshold", "0.7"]) == 0
    half, given = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("half", "given"))
    assert half["threshold"] == 0.5 and half["mean_dice"] < 0.5
    assert given["threshold"] == 0.7 and given["mean_dice"] == pytest.approx(1.0)
    assert "Threshold 0.7" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "given").iterdir()) == ["cases.csv", "nodes.csv", "summary.json"]


def test_missing_bundle_ends_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--model", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"Error: No model bundle in {tmp_path}/none: spec.json is missing\n"
