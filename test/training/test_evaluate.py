from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lnq import pipeline
from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Box, Volume
from lnq.inference import backends
from lnq.inference.spec import CropSpec, ModelSpec
from training.bundle.write import export
from training.config import TINY, Stage
from training.engine.finetuning import finetune
from training.evaluate import main


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

    def on_the_crop(array: np.ndarray, source: Volume, target: Volume, box: Box) -> np.ndarray:
        if source.array is array:
            return original(array, source, target, box)
        ready = pipeline.find_crop(ct.with_array(hu), CropSpec())
        return probability[ready.box][box]

    original = pipeline.resample_array_to
    monkeypatch.setattr(backends, "sliding_window", known)
    monkeypatch.setattr(pipeline, "resample_array_to", on_the_crop)
    monkeypatch.setattr(pipeline, "box_reaching", lambda _array, _least, _source, _target, box: box)
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
        rows = list(csv.DictReader(file))
    sweep = {float(row["threshold"]): float(row["mean_dice"]) for row in rows if row["peak_threshold"] == "0.0"}
    assert {row["threshold"] for row in rows if row["peak_threshold"] != "0.0"} == {str(spec.threshold)}
    assert sweep[0.7] == pytest.approx(1.0) and sweep[0.5] < 0.5 and sweep[0.9] == 0.0
    content = json.loads((output / "summary.json").read_text())
    assert content["threshold"] == spec.threshold and content["mean_dice"] == pytest.approx(1.0)


def test_thresholds_are_stored_with_the_mirroring_that_they_are_for(
    scored: Path, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, output = tmp_path / "model", tmp_path / "results"
    shutil.copytree(tiny_bundle, bundle)
    common = [str(scored), "--model", str(bundle), "-o", str(output), "--device", "cpu"]
    assert main([*common, "--tune-threshold", "--mirror", "2"]) == 0
    assert ModelSpec.load(bundle).mirror == 2
    content = json.loads((output / "summary.json").read_text())
    assert (content["mirror"], content["precision"]) == (2, "f32")
    assert ", mirror 2" in capsys.readouterr().out.replace("\n", " ")
    assert main([*common, "--mirror", "0"]) == 0
    assert json.loads((output / "summary.json").read_text())["mirror"] == 0
    assert ModelSpec.load(bundle).mirror == 2


def test_thresholds_of_an_ensemble_are_tuned_for_all_its_networks(
    scored: Path, tmp_path: Path, tiny_ensemble: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, output = tmp_path / "model", tmp_path / "results"
    shutil.copytree(tiny_ensemble, bundle)
    common = [str(scored), "--model", str(bundle), "-o", str(output), "--device", "cpu"]
    assert main([*common, "--tune-threshold"]) == 0
    spec, before = ModelSpec.load(bundle), ModelSpec.load(tiny_ensemble)
    assert 0.6 < spec.threshold <= 0.8 and spec.sha256 == before.sha256 and spec.format_version == 3
    assert json.loads((output / "summary.json").read_text())["members"] == 3
    assert ", 3 members" in capsys.readouterr().out.replace("\n", " ")
    assert main([*common, "--members", "2"]) == 0
    assert json.loads((output / "summary.json").read_text())["members"] == 2
    assert main([*common, "--members", "4"]) == 2
    assert capsys.readouterr().err.endswith("Error: The number of members must be 1 to 3, not 4\n")


def test_a_calibration_is_stored_and_the_masks_stay(
    tmp_path: Path,
    make_thorax: Callable[..., Volume],
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A network that is the surer the denser the tissue is, where a quarter of the densest is node."""
    ct = make_thorax()
    z, y, x = np.indices(ct.shape)
    dense = (np.abs(z - 20) < 4) & (np.abs(y - 30) < 4) & (np.abs(x - 32) < 4)
    (tmp_path / "cases").mkdir()
    write_volume(ct.with_array(np.where(dense, 120, ct.array).astype(np.int16)), tmp_path / "cases" / "a-ct.nrrd")
    write_volume(ct.with_array((dense & (y >= 30) & (x >= 32)).astype(np.uint8)), tmp_path / "cases" / "a-seg.nrrd")
    monkeypatch.setattr(backends, "sliding_window", lambda image, *_: image)
    bundle, output = tmp_path / "model", tmp_path / "results"
    shutil.copytree(tiny_bundle, bundle)
    common = [str(tmp_path / "cases"), "--model", str(bundle), "-o", str(output), "--device", "cpu"]
    assert main([*common, "--tune-threshold", "--calibrate"]) == 0
    assert "Calibrated: the mean distance between probability and fraction of nodes" in capsys.readouterr().err
    before, spec = json.loads((output / "summary.json").read_text()), ModelSpec.load(bundle)
    assert spec.format_version == 4 and spec.calibration.at(before["threshold"]) == pytest.approx(spec.threshold)
    assert spec.provenance["calibration"]["cases"] == ["a"] == spec.provenance["threshold"]["cases"]
    assert spec.provenance["calibration"]["error_after"] < spec.provenance["calibration"]["error_before"]
    assert {"reliability.csv", "reliability.png"} <= {path.name for path in output.iterdir()}
    assert main(common) == 0
    after = json.loads((output / "summary.json").read_text())
    assert (after["mean_dice"], after["node_f1"]) == (before["mean_dice"], before["node_f1"])
    assert main([*common, "--calibrate"]) == 0
    again = ModelSpec.load(bundle).calibration  # there was next to nothing left to mend
    assert (again.slope, again.offset) == pytest.approx((spec.calibration.slope, spec.calibration.offset), rel=0.05)


def test_a_calibration_that_cannot_be_fitted_leaves_the_bundle(
    scored: Path, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network of `scored` gives 0 everywhere, before its output is replaced."""
    bundle, output = shutil.copytree(tiny_bundle, tmp_path / "model"), tmp_path / "results"
    before = (bundle / "spec.json").read_bytes()
    common = [str(scored), "--model", str(bundle), "-o", str(output), "--device", "cpu", "--calibrate"]
    assert main([*common, "--tune-threshold"]) == 2
    assert "Error: A calibration needs cases with nodes, and something beside them" in capsys.readouterr().err
    assert main([*common, "--mirror", "2"]) == 2
    assert "Error: --calibrate is for the bundle's own mirroring" in capsys.readouterr().err
    assert main([*common, "--predictions", str(tmp_path)]) == 2
    assert "Error: --calibrate is of a bundle, with all its networks" in capsys.readouterr().err
    assert (bundle / "spec.json").read_bytes() == before and not output.exists()


def test_scoring_uses_the_threshold_of_the_bundle_or_the_given_one(
    scored: Path, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(scored), "--model", str(tiny_bundle), "--device", "cpu", "-o"]
    assert main([*common, str(tmp_path / "half")]) == 0
    assert main([*common, str(tmp_path / "given"), "--threshold", "0.7"]) == 0
    half, given = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("half", "given"))
    assert half["threshold"] == 0.5 and half["mean_dice"] < 0.5
    assert given["threshold"] == 0.7 and given["mean_dice"] == pytest.approx(1.0)
    assert f"{tiny_bundle} at threshold 0.7" in capsys.readouterr().out.replace("\n", " ")
    names = ["cases.csv", "nodes.csv", "scores.png", "summary.json", "worst"]
    assert sorted(p.name for p in (tmp_path / "given").iterdir()) == names
    assert (tmp_path / "given" / "worst" / "1-a.png").read_bytes()[:4] == b"\x89PNG"


def test_missing_bundle_ends_in_a_sentence(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(scored), "--model", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"Error: No model bundle in {tmp_path}/none: spec.json is missing\n"


def test_checkpoint_scores_as_its_exported_bundle(
    make_prepared: Callable[..., Path],
    make_thorax: Callable[..., Volume],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cases, run = tmp_path / "cases", tmp_path / "run"
    cases.mkdir()
    ct = make_thorax()
    label = np.zeros(ct.shape, np.uint8)
    label[20:26, 24:30, 28:34] = 1
    write_volume(ct, cases / "a-ct.nrrd")
    write_volume(ct.with_array(label), cases / "a-seg.nrrd")
    config = dataclasses.replace(TINY, finetune=Stage(epochs=1, iterations=2), threads=1)
    finetune(make_prepared(tmp_path / "data"), run, config)
    export([run / "finetune.pt"], tmp_path / "model")
    common = [str(cases), "--device", "cpu", "--worst", "0", "--tune-threshold", "-o"]
    assert main([*common, str(tmp_path / "one"), "--checkpoint", str(run / "finetune.pt")]) == 0
    error = capsys.readouterr().err
    assert main([*common, str(tmp_path / "two"), "--model", str(tmp_path / "model")]) == 0
    best = ModelSpec.load(tmp_path / "model")
    options = f"--threshold {best.threshold:g} --peak-threshold {best.peak_threshold:g}\n"
    assert f"These thresholds are the best, give them to training.export: {options}" in error
    one, two = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two"))
    assert one.pop("scored") == str(run / "finetune.pt") and two.pop("scored") == str(tmp_path / "model")
    del one["mean_seconds"], two["mean_seconds"]
    assert one == two
    assert not (tmp_path / "one" / "worst").exists()


@pytest.fixture
def masks(scored: Path, tmp_path: Path) -> Path:
    """Next to case a, a case b without prediction and a case c whose prediction is on another grid."""
    truth = read_volume(scored / "a-seg.nrrd")
    folder = tmp_path / "masks"
    (folder / "a-ct").mkdir(parents=True)
    for name in ("b", "c"):
        write_volume(truth, scored / f"{name}-seg.nrrd")
    half = truth.array.copy()
    half[: np.flatnonzero(half.any(axis=(1, 2)))[0] + 2] = 0
    write_volume(truth.with_array(half), folder / "a-ct" / "segmentation.mha")
    write_volume(truth.crop(np.s_[1:, :, :]), folder / "c.nii.gz")
    return folder


def test_folder_of_masks_is_scored_and_what_is_missing_is_named(
    scored: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    assert main([str(scored), "--predictions", str(masks), "-o", str(output)]) == 1
    content = json.loads((output / "summary.json").read_text())
    truth, mask = read_volume(scored / "a-seg.nrrd").array, read_volume(masks / "a-ct" / "segmentation.mha").array
    assert content["cases"] == 1 and content["threshold"] is None and content["mean_seconds"] is None
    assert content["mean_dice"] == pytest.approx(2 * mask.sum() / (mask.sum() + truth.sum()))
    error = capsys.readouterr().err
    assert f"b is left out: {masks} has no prediction for it, named b.<ext>" in error
    assert "c is left out: The prediction is not on the grid of c-seg.nrrd\n" in error
    assert error.endswith("2 cases were left out: b, c\n")
    assert content["left_out"].keys() == {"b", "c"}
    assert (output / "worst" / "1-a.png").is_file()


def test_empty_masks_are_said_to_be_treated_as_the_paper_does(
    scored: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = read_volume(scored / "b-seg.nrrd")
    for name in ("b", "c"):
        write_volume(truth.with_array(truth.array * (name == "c")), masks / f"{name}.mha")
    (masks / "c.nii.gz").unlink()
    assert main([str(scored), "--predictions", str(masks), "-o", str(tmp_path / "results")]) == 0
    out = capsys.readouterr().out
    assert (
        "* Where one of two masks is empty there is no ASSD: the largest of the set stands in, as in the paper." in out
    )
    with open(tmp_path / "results" / "cases.csv") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert rows["b"]["assd_mm"] == rows["a"]["assd_mm"] and rows["b"]["assd_replaced"] == "True"
    assert float(rows["c"]["assd_mm"]) == 0.0 and float(rows["b"]["dice"]) == 0.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--checkpoint", "x", "--predictions", "y"], "--checkpoint and --predictions exclude each other"),
        (["--predictions", "y", "--tune-threshold"], "--predictions goes without these"),
        (["--predictions", "y", "--mirror", "0"], "--predictions goes without these"),
        (["--threshold", "0.4", "--tune-threshold"], "--threshold and --tune-threshold exclude each other"),
        (["--predictions", "y", "--members", "1"], "--members is of a bundle's networks: it goes with --model alone"),
        (["--members", "1", "--tune-threshold"], "--tune-threshold goes without --members"),
        (["--predictions", "nowhere"], "Error: nowhere is no folder"),
    ],
)
def test_what_cannot_go_together_is_refused(
    scored: Path, tmp_path: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(scored), "-o", str(tmp_path / "out"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_to_score_is_an_error(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(scored), "--predictions", str(tmp_path / "empty"), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.endswith("Error: No case could be scored, 1 were left out\n")
