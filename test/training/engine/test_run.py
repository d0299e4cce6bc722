from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers.training_runs import RESUMED

from lnq.inference.spec import Normalisation
from training.config import Stage
from training.data.dataset_info import read_dataset_info, write_dataset_info
from training.engine.checkpoint import load_checkpoint, save_checkpoint
from training.engine.finetuning import finetune
from training.engine.run import Facts, TrainingRun, read_config, read_facts


def test_checkpoint_of_an_older_version_is_not_gone_on_with(
    prepared: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    save_checkpoint(tmp_path / "finetune.pt", load_checkpoint(uninterrupted / "finetune.pt") | {"format": 1})
    with pytest.raises(ValueError, match=r"finetune.pt is of an older version, which alone can go on with it"):
        finetune(prepared, tmp_path, RESUMED)


def test_setting_that_the_checkpoint_does_not_know_has_its_default(
    prepared: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    checkpoint = load_checkpoint(uninterrupted / "finetune.pt")
    del checkpoint["config"]["auxiliary_dropout"]
    save_checkpoint(tmp_path / "finetune.pt", checkpoint)
    assert finetune(prepared, tmp_path, RESUMED)
    with pytest.raises(ValueError, match=r"other settings \(config.auxiliary_dropout\)"):
        finetune(prepared, tmp_path, dataclasses.replace(RESUMED, auxiliary_dropout=0.3))


def test_folder_of_a_run_with_other_settings_is_refused(prepared: Path, uninterrupted: Path) -> None:
    losses = dataclasses.replace(RESUMED.losses, tau=0.2)
    with pytest.raises(ValueError, match=r"other settings \(config.losses.tau\)"):
        finetune(prepared, uninterrupted, dataclasses.replace(RESUMED, losses=losses))
    assert finetune(prepared, uninterrupted, dataclasses.replace(RESUMED, workers=1))
    again = dataclasses.replace(read_dataset_info(prepared), provenance={"commit": "a newer one"})
    write_dataset_info(prepared, again)
    assert finetune(prepared, uninterrupted, RESUMED)


def test_checkpoint_of_before_crops_were_written_down_goes_on(
    prepared: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    checkpoint = load_checkpoint(uninterrupted / "finetune.pt")
    del checkpoint["config"]["crop"], checkpoint["facts"]["dataset"]["crop"], checkpoint["facts"]["pretraining"]
    save_checkpoint(tmp_path / "finetune.pt", checkpoint)
    assert finetune(prepared, tmp_path, RESUMED)
    assert read_config(checkpoint) == RESUMED and read_facts(checkpoint).method == "dbdmp"
    with pytest.raises(ValueError, match=r"other settings \(config.seed\)"):
        finetune(prepared, tmp_path, dataclasses.replace(RESUMED, seed=1))


def test_facts_survive_a_checkpoint(uninterrupted: Path, prepared: Path) -> None:
    facts = read_facts(load_checkpoint(uninterrupted / "finetune.pt"))
    assert facts.cases == ("case-00", "case-01", "case-02") and facts.init is None and facts.pretraining is None
    assert facts.dataset is not None and facts.dataset.spacing_mm == (4.0, 3.0, 3.0)
    assert facts.normalisation == Normalisation("ct", (-140.0, 120.0), 60.0, 40.0)


def test_run_knows_its_checkpoint_and_length(tmp_path: Path) -> None:
    run = TrainingRun("finetune", Stage(epochs=4, iterations=5), RESUMED, tmp_path, Facts(("a",)))
    assert (run.checkpoint, run.steps) == (tmp_path / "finetune.pt", 20)
