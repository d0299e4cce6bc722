from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.ablation import pulls as pulls_module
from training.ablation.pulls import Pull, main, measure, pulls_of, table
from training.ablation.rows import ROWS
from training.config import TINY, Config
from training.data.dataset import Sample
from training.method.network import DualBranchNet
from training.method.step import finetuning_step, position_at

# Whole weight of the pseudo label from the first step; no dropout, so that a moved network can be held against it
CONFIG = dataclasses.replace(
    TINY, precision="32-true", threads=1, auxiliary_dropout=0.0, losses=dataclasses.replace(TINY.losses, ramp=0.0)
)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return DualBranchNet(CONFIG.network, auxiliary_dropout=0.0).double()


@pytest.fixture
def batch() -> Sample:
    torch.manual_seed(1)
    label = torch.zeros(2, *CONFIG.patch, dtype=torch.uint8)
    label[1, 3:5, 4:9, 4:9] = 1
    image = torch.randn(2, 1, *CONFIG.patch, dtype=torch.float64)
    return {"image": image, "label": label, "full": torch.zeros(2, dtype=torch.bool)}


def mean_log_odds(network: nn.Module, batch: Sample) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        log_odds = torch.diff(network(batch["image"])[0], dim=1)[:, 0]
    return log_odds[batch["label"] == 0].mean(), log_odds[batch["label"] == 1].mean()


@pytest.mark.parametrize("row", ["e", "f"])
def test_pulls_of_all_losses_make_up_what_a_small_step_does(network, batch, row):
    where = position_at(CONFIG, 0, 0)
    pulls = measure(ROWS[row], CONFIG, network, batch, where)
    assert [pull.loss for pull in pulls] == [*ROWS[row].supervised, "pseudo"]
    before = mean_log_odds(network, batch)
    assert pulls[0].background < 1 and pulls[0].node < 1
    finetuning_step(ROWS[row].objective, CONFIG)(network, batch, where)["loss"].backward()
    rate = 1e-8
    with torch.no_grad():
        for weight in network.parameters():
            weight -= rate * weight.grad
    moved = [float(after - now) / rate for after, now in zip(mean_log_odds(network, batch), before, strict=True)]
    assert sum(pull.on_background for pull in pulls) == pytest.approx(moved[0], rel=0.01)
    assert sum(pull.on_node for pull in pulls) == pytest.approx(moved[1], rel=0.01)


def test_partial_cross_entropy_knows_no_background(network, batch):
    pulls = {pull.loss: pull for pull in measure(ROWS["e"], CONFIG, network, batch, position_at(CONFIG, 0, 0))}
    assert pulls["pce"].on_node > 0
    assert pulls["pce"].on_background > 0  # by the weights that both share


def test_batch_without_annotated_voxel_measures_nothing(network, batch):
    batch["label"][:] = 0
    assert measure(ROWS["e"], CONFIG, network, batch, position_at(CONFIG, 0, 0)) == []


def test_run_is_the_one_that_is_not_measured(prepared: Path, monkeypatch):
    losses: list[list[float]] = []

    def recording(objective, config):
        own = finetuning_step(objective, config)
        losses.append([])

        def step(*given):
            terms = own(*given)
            losses[-1].append(float(terms["loss"].detach()))
            return terms

        return step

    monkeypatch.setattr(pulls_module, "finetuning_step", recording)
    config: Config = dataclasses.replace(CONFIG, auxiliary_dropout=0.5)
    for steps in ((3,), (0, 1, 2, 3)):
        pulls_of(ROWS["e"], prepared, config, steps)
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]


def test_mixed_precision_is_left_for_the_measurement(prepared: Path):
    config = dataclasses.replace(CONFIG, precision="bf16-mixed", compile=True)
    assert {pull.step for pull in pulls_of(ROWS["e"], prepared, config, (1,))} == {1}


def test_stopped_run_ends_the_command(prepared: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pulls_module, "finetune", lambda *_, **__: False)
    assert main(["--data", str(prepared), "-o", str(tmp_path / "out"), "--rows", "e", "f"]) == 143
    assert list((tmp_path / "out").iterdir()) == []


def test_table_gives_background_then_nodes():
    own = [Pull("e", 0, 0.5, 0.25, "pce", 2.0, 30.0), Pull("e", 0, 0.5, 0.25, "pseudo", -0.5, 0.004)]
    assert table(own)[-2] == "| 0 | 0.500 | 0.250 | +2, +30 | -0.5, +0.004 |"


def test_command_writes_what_it_measured(prepared: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pulls_module, "pulls_of", lambda row, *_: [Pull(row.name, 0, 0.5, 0.25, "pce", 2.0, 30.0)])
    assert main(["--data", str(prepared), "-o", str(tmp_path / "out"), "--rows", "e"]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "pulls.csv").read_text().splitlines()))
    assert [(row["row"], row["loss"], float(row["on_node"])) for row in rows] == [("e", "pce", 30.0)]
    assert "Row e:" in (tmp_path / "out" / "pulls.md").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--rows", "e", "h"],
            "A row of two branches that starts from chance is one of a, b, c, d, e, f, e-integer, not h",
        ),
        (["--rows", "g"], "A row of two branches that starts from chance is one of a, b, c, d, e, f, e-integer, not g"),
        (["--steps", "-1"], "Steps must lie between 0 and 2398"),
        (["--steps", "2399"], "Steps must lie between 0 and 2398"),
    ],
)
def test_what_cannot_be_measured_is_said(prepared: Path, tmp_path: Path, capsys, options, sentence):
    assert main(["--data", str(prepared), "-o", str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err == f"Error: {sentence}\n"
    assert not (tmp_path / "out").exists()
