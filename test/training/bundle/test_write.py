from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.prepared_cases import fake_dataset
from helpers.training_runs import SHORT
from torch import nn

from lnq.inference.backends import load_model
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import ModelSpec
from training.bundle import write as module
from training.bundle.write import check_agreement, export
from training.config import TINY
from training.engine.checkpoint import load_checkpoint
from training.engine.finetuning import finetune
from training.method.network import DualBranchNet


def test_bundle_runs_on_both_backends_as_the_averaged_main_branch(checkpoint: Path, bundle: Path) -> None:
    dual = DualBranchNet(TINY.network).eval()
    dual.load_state_dict(load_checkpoint(checkpoint)["average"])
    patch = torch.randn(2, 1, *TINY.patch)
    with torch.inference_mode():
        wanted = dual(patch, both=False)[0].numpy()
    for device in ("cpu", "cpu-torch"):
        assert np.abs(load_model(bundle, device, threads=1).networks[0].predict(patch.numpy()) - wanted).max() < 1e-3


def test_specification_says_what_the_model_is(bundle: Path) -> None:
    spec = ModelSpec.load(bundle)
    assert (spec.network, spec.patch, spec.spacing_mm) == (TINY.network, TINY.patch, TINY.spacing_mm)
    assert (spec.threshold, spec.window_step, spec.mirror) == (0.7, 0.75, 4)
    # The data's percentiles -140 and 120, a quarter of their range further out; its smallest node has 150 mm3
    assert spec.postprocess.hu_range == (-205.0, 185.0) and spec.postprocess.min_volume_mm3 == 150.0
    assert spec.normalisation.clip_hu == (-140.0, 120.0) and spec.normalisation.mean == 60.0
    assert spec.provenance["method"] == "dbdmp" and spec.provenance["steps"] == 2
    assert spec.provenance["data"]["partial_cases"] == 2
    assert spec.provenance["data"]["used_cases"] == 3
    assert spec.provenance["complete"] is True


def test_other_files_of_the_bundle_but_an_8_bit_network_stay_and_all_can_be_read(bundle: Path) -> None:
    names = sorted(path.name for path in bundle.iterdir())
    assert names == ["MODEL_CARD.md", "model.onnx", "spec.json", "weights.safetensors"]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in bundle.iterdir())
    assert [path.name for path in bundle.parent.iterdir()] == ["model"]


def test_networks_that_differ_are_refused_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.write_onnx

    def altered(network: nn.Module, spec: ModelSpec, path: Path) -> None:
        with torch.no_grad():
            network.get_parameter("decoder.head.bias")[0] += 0.05
        original(network, spec, path)
        with torch.no_grad():
            network.get_parameter("decoder.head.bias")[0] -= 0.05

    monkeypatch.setattr(module, "write_onnx", altered)
    with pytest.raises(ValueError, match=r"The ONNX network differs from the checkpoint by 0\.05.*nothing was written"):
        export([checkpoint], tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of another seed."""
    folder = tmp_path_factory.mktemp("other")
    assert finetune(fake_dataset(folder / "data"), folder, dataclasses.replace(SHORT, seed=7))
    return folder / "finetune.pt"


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, other: Path) -> Path:
    output = tmp_path_factory.mktemp("ensemble") / "model"
    export([checkpoint, other], output, threshold=0.7)
    return output


def test_several_checkpoints_make_a_bundle_of_several_networks(
    checkpoint: Path, other: Path, bundle: Path, ensemble: Path, tmp_path: Path
) -> None:
    spec, single = ModelSpec.load(ensemble), ModelSpec.load(bundle)
    assert (spec.members, spec.threshold, spec.format_version) == (2, 0.7, 3)
    assert (spec.postprocess, spec.normalisation) == (single.postprocess, single.normalisation)
    one, two = spec.provenance["members"]
    assert {name: one[name] for name in single.provenance} == single.provenance
    assert (one["seed"], two["seed"]) == (0, 7)
    assert one["config_sha256"] != two["config_sha256"] and one["cases_sha256"] == two["cases_sha256"]
    image = np.random.default_rng(0).normal(size=spec.patch).astype(np.float32)
    export([other], tmp_path / "other")
    alone = [load_model(folder, "cpu", 1, mirror=0).probabilities(image) for folder in (bundle, tmp_path / "other")]
    for device in ("cpu", "cpu-torch"):
        both = load_model(ensemble, device, 1).probabilities(image)
        np.testing.assert_allclose(both.mean, (alone[0].mean + alone[1].mean) / 2, atol=1e-4)
    assert (load_model(ensemble, "cpu", 1, members=1).probabilities(image).mean == alone[0].mean).all()


def test_one_network_takes_the_place_of_several(checkpoint: Path, ensemble: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(ensemble, tmp_path / "model"))
    (output / "weights-old.safetensors").write_text("of somebody")
    export([checkpoint], output)
    names = ["model.onnx", "spec.json", "weights-old.safetensors", "weights.safetensors"]
    assert sorted(path.name for path in output.iterdir()) == names
    export([checkpoint], tmp_path / "fresh")
    for name in ("model.onnx", "spec.json", "weights.safetensors"):
        assert (output / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_weights_that_differ_from_the_checkpoint_are_refused(bundle: Path) -> None:
    spec = ModelSpec.load(bundle)
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="The safetensors network differs"):
        check_agreement(DualBranchNet(spec.network), SegmentationNet(spec.network), bundle / "model.onnx", spec)
