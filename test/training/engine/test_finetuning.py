from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.training_runs import SHORT, STILL, assert_same_run, weights
from safetensors.torch import load_file
from torch import Tensor, nn

from lnq.inference.spec import ModelSpec
from training.config import Config, Losses
from training.data.dataset import Sample
from training.engine.checkpoint import load_checkpoint
from training.engine.finetuning import Wanted, finetune, finetune_together
from training.engine.pretraining import pretrain
from training.finetune import main as finetune_main
from training.method.network import DualBranchNet, is_head
from training.method.step import CROSS_ENTROPY, KNOWN, WITHOUT_PCE, Objective, Position, Step, finetuning_step


def test_exported_model_is_a_start_for_fine_tuning(bundle: Path, prepared: Path, tmp_path: Path) -> None:
    assert finetune(prepared, tmp_path / "run", STILL, init=bundle)
    again = load_checkpoint(tmp_path / "run" / "finetune.pt")
    shipped = load_file(bundle / "weights.safetensors")
    for name, value in shipped.items():
        part, rest = name.split(".", 1)
        for own in ("main", "auxiliary") if part == "decoder" else ("encoder",):
            assert torch.equal(again["model"][f"{own}.{rest}"], value), name
    assert again["facts"]["pretraining"]["bundle"] == ModelSpec.load(bundle).sha256["weights.safetensors"]
    assert again["facts"]["pretraining"]["steps"] == 2


def test_bundle_that_is_damaged_or_of_another_network_is_no_start(
    bundle: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", str(prepared), "-o", str(tmp_path / "run"), "--init"]
    assert finetune_main([*command, str(bundle), "--preset", "compact"]) == 2
    assert "Error: Pre-trained weights are of another network" in capsys.readouterr().err
    shutil.copytree(bundle, tmp_path / "damaged")
    with open(tmp_path / "damaged" / "weights.safetensors", "ab") as file:
        file.write(b"x")
    assert finetune_main([*command, str(tmp_path / "damaged"), "--preset", "tiny"]) == 2
    assert "was altered: its SHA-256 is not the one in spec.json" in capsys.readouterr().err


def test_a_bundle_of_several_networks_is_no_start(
    tiny_ensemble: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", str(prepared), "-o", str(tmp_path / "run"), "--init", str(tiny_ensemble), "--preset", "tiny"]
    assert finetune_main(command) == 2
    sentence = f"The model bundle in {tiny_ensemble} holds 3 networks: one of a single is needed\n"
    assert capsys.readouterr().err.endswith(sentence)


def test_pretrained_weights_are_the_start(prepared: Path, tmp_path: Path) -> None:
    assert pretrain(prepared, tmp_path / "pre", SHORT)
    assert finetune(prepared, tmp_path / "fine", STILL, init=tmp_path / "pre" / "pretrain.pt")
    before, after = weights(tmp_path / "pre" / "pretrain.pt"), weights(tmp_path / "fine" / "finetune.pt")
    for name, value in after.items():
        if not is_head(name):
            assert torch.equal(value, before[name]), name
    assert after["main.head.weight"].shape[0] == 2 and before["main.head.weight"].shape[0] == 1


def test_cross_entropy_leaves_the_auxiliary_branch_alone(prepared: Path, tmp_path: Path) -> None:
    assert finetune(prepared, tmp_path, SHORT, objective=CROSS_ENTROPY)
    torch.manual_seed(SHORT.seed)
    start = DualBranchNet(SHORT.network).state_dict()
    for name, value in weights(tmp_path / "finetune.pt").items():
        assert torch.equal(value, start[name]) == name.startswith("auxiliary"), name


def test_bundle_that_crops_otherwise_is_no_start(bundle: Path, prepared: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    spec = ModelSpec.load(other)
    dataclasses.replace(spec, crop=dataclasses.replace(spec.crop, region_margin_mm=20.0)).save(other)
    sentence = "has crop.region_margin_mm 20.0 where the data has crop.region_margin_mm 15.0: CTs must be cropped alike"
    with pytest.raises(ValueError, match=f"^The bundle in {other} {sentence}$"):
        finetune(prepared, tmp_path / "run", STILL, init=other)


def test_data_without_an_annotated_node_are_refused(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    data = make_prepared(tmp_path / "data", partial=1, full=0)
    path = data / "case-00" / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"node_centres": []}))
    with pytest.raises(ValueError, match=f"^No case in {data} has an annotated node$"):
        finetune(data, tmp_path / "run", SHORT)


def test_weights_of_small_nodes_that_a_method_does_not_read_are_refused(prepared: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, losses=Losses(small_node_mm=8.0))
    wanted = Wanted(tmp_path / "run", config, objective=WITHOUT_PCE)
    refused = (
        lambda: finetune(tmp_path / "nothing", tmp_path / "run", config, objective=WITHOUT_PCE),  # before it is read
        lambda: finetune_together(tmp_path / "nothing", [wanted]),
    )
    for train in refused:
        with pytest.raises(ValueError) as error:
            train()
        assert str(error.value) == "losses.small_node_mm is for method known alone, not for dbdmp_without_pce"
    assert finetune(prepared, tmp_path / "run", config, objective=KNOWN)


def test_step_can_be_looked_on_at(prepared: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def make(objective: Objective, config: Config) -> Step:
        own = finetuning_step(objective, config)

        def step(model: nn.Module, batch: Sample, position: Position) -> dict[str, Tensor]:
            seen.append(position.step)
            return own(model, batch, position)

        return step

    assert finetune(prepared, tmp_path / "watched", SHORT, make_step=make)
    assert finetune(prepared, tmp_path / "plain", SHORT)
    assert seen == [0, 1]
    assert_same_run(tmp_path / "watched", tmp_path / "plain")
