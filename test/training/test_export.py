from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers.prepared_cases import recrop
from helpers.training_runs import SHORT

from lnq.inference.spec import CropSpec, ModelSpec
from training.engine.checkpoint import load_checkpoint, save_checkpoint
from training.engine.finetuning import finetune
from training.engine.pretraining import pretrain
from training.export import main


def test_model_of_a_stopped_run_says_so(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = tmp_path / "stopped.pt"
    save_checkpoint(stopped, load_checkpoint(checkpoint) | {"complete": False, "step": 1})
    assert main([str(stopped), "-o", str(tmp_path / "model")]) == 0
    assert f"Warning: {stopped} is of a run stopped at step 1 of 2; the model says so" in capsys.readouterr().err
    assert ModelSpec.load(tmp_path / "model").provenance["complete"] is False


def test_pretraining_checkpoint_is_refused(tmp_path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain(prepared, tmp_path, SHORT)
    assert main([str(tmp_path / "pretrain.pt"), "-o", str(tmp_path / "model")]) == 2
    assert "export needs one of finetune" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_crop_travels_from_the_data_into_the_bundle(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recrop(prepared, CropSpec(margin_mm=20.0))
    assert finetune(prepared, tmp_path, dataclasses.replace(SHORT, crop=CropSpec(margin_mm=20.0)))
    assert main([str(tmp_path / "finetune.pt"), "-o", str(tmp_path / "model")]) == 0
    assert "is of a run stopped" not in capsys.readouterr().err
    assert ModelSpec.load(tmp_path / "model").crop == CropSpec(margin_mm=20.0)
    disagreeing = load_checkpoint(tmp_path / "finetune.pt")
    disagreeing["config"]["crop"]["margin_mm"] = 10.0
    save_checkpoint(tmp_path / "other.pt", disagreeing)
    assert main([str(tmp_path / "other.pt"), "-o", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_given_twice_is_refused_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint), str(checkpoint), "-o", str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert error == f"Error: Two members are the same network: {checkpoint} and {checkpoint}\n"
    assert not list(tmp_path.iterdir())


def test_each_stopped_run_of_an_ensemble_is_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = tmp_path / "stopped.pt"
    content = load_checkpoint(checkpoint) | {"complete": False, "step": 1}
    content["average"] = {name: value + 1e-3 for name, value in content["average"].items()}
    save_checkpoint(stopped, content)
    assert main([str(checkpoint), str(stopped), "-o", str(tmp_path / "model")]) == 0
    error = capsys.readouterr().err
    assert error.count("is of a run stopped") == 1 and f"Warning: {stopped} is of a run stopped at step 1 of 2" in error
    members = ModelSpec.load(tmp_path / "model").provenance["members"]
    assert [member["complete"] for member in members] == [True, False]
