"""The command that finds where a network is wrong, and fine-tuning that looks there more often."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers.prepared_cases import recrop
from helpers.training_runs import SHORT

from lnq.inference.spec import CropSpec
from training.data.certain import add_certain
from training.data.prepared import case_folders
from training.engine.finetuning import finetune
from training.mine import main


@pytest.fixture
def data(prepared: Path) -> Path:
    for folder in case_folders(prepared):
        add_certain(folder, (-140.0, 120.0))
    return prepared


def test_every_case_is_looked_at_and_the_next_run_uses_it(data: Path, bundle: Path, tmp_path: Path, capsys) -> None:
    sampling = dataclasses.replace(SHORT.sampling, wrong_every=2)
    config = dataclasses.replace(SHORT, sampling=sampling)
    with pytest.raises(ValueError, match="case-00 does not say where a network was wrong: run training.mine first$"):
        finetune(data, tmp_path / "run", config)
    assert main([str(data), "--model", str(bundle), "--device", "cpu"]) == 0
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith("missed nodes in 3 cases") and "wrong marks and" in told
    assert all((folder / "wrong.npy").is_file() for folder in case_folders(data))
    assert finetune(data, tmp_path / "run", config)


def test_one_bad_case_leaves_the_others(data: Path, bundle: Path, capsys) -> None:
    (data / "case-01" / "label.b2nd").write_bytes(b"no")
    assert main([str(data), "--model", str(bundle), "--device", "cpu"]) == 1
    told = capsys.readouterr().err
    assert "case-01 is left out: " in told and "missed nodes in 2 cases" in told
    assert not (data / "case-01" / "wrong.npy").exists() and (data / "case-02" / "wrong.npy").exists()


def test_data_of_another_crop_are_refused(data: Path, bundle: Path, capsys) -> None:
    recrop(data, CropSpec(margin_mm=20.0))
    assert main([str(data), "--model", str(bundle), "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "case-00 is left out: " in told and told.splitlines()[-1] == "Error: No case could be looked at"
