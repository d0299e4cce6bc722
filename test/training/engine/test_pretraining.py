from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from helpers.training_runs import SHORT, metrics

from training.config import Losses, Sampling
from training.data.splits import Selection
from training.engine.checkpoint import load_checkpoint
from training.engine.pretraining import pretrain
from training.engine.run import Facts, read_facts


def test_both_branches_learn_to_reconstruct(prepared: Path, tmp_path: Path) -> None:
    assert pretrain(prepared, tmp_path, SHORT)
    checkpoint = load_checkpoint(tmp_path / "pretrain.pt")
    assert (checkpoint["stage"], checkpoint["step"], checkpoint["complete"]) == ("pretrain", 1, True)
    assert {checkpoint["model"][f"{branch}.head.weight"].shape[0] for branch in ("main", "auxiliary")} == {1}
    (row,) = metrics(tmp_path)
    assert float(row["loss"]) > 0 and {"mse_main", "mse_aux"} <= row.keys()


def test_pre_training_needs_images_alone(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    data = make_prepared(tmp_path / "data", partial=1, full=0)
    config = dataclasses.replace(SHORT, losses=Losses(trust="certain"), sampling=Sampling(wrong_every=4))
    (data / "case-00" / "label.b2nd").unlink()
    assert pretrain(data, tmp_path / "run", config)


def test_pre_training_takes_the_selected_cases_and_no_annotation(prepared: Path, tmp_path: Path) -> None:
    assert pretrain(prepared, tmp_path, SHORT, Selection(annotated="full"))
    assert read_facts(load_checkpoint(tmp_path / "pretrain.pt")) == Facts(("case-02",))
