from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lnq.inference.backends import load_model
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import ModelSpec
from training.bundle.export import check_agreement, export
from training.bundle.export import export as module
from training.config import TINY, Stage
from training.engine.checkpoint import load_checkpoint, save_checkpoint
from training.engine.finetune import finetune
from training.engine.pretrain import pretrain
from training.export import main
from training.finetune import main as finetune_main
from training.method.network import DualBranchNet

CONFIG = dataclasses.replace(
    TINY, finetune=Stage(epochs=1, iterations=2, ema=0.9), pretrain=Stage(epochs=1, iterations=1), threads=1
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, make_prepared) -> Path:
    folder = tmp_path_factory.mktemp("run")
    finetune(make_prepared(folder / "data"), folder, CONFIG)
    return folder / "finetune.pt"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    output = tmp_path_factory.mktemp("bundle") / "model"
    output.mkdir()
    (output / "MODEL_CARD.md").write_text("kept")
    (output / "model-int8.xml").write_text("of other weights")
    export(checkpoint, output, threshold=0.7, window_step=0.75, mirror=4)
    return output


def test_bundle_runs_on_both_backends_as_the_averaged_main_branch(checkpoint: Path, bundle: Path) -> None:
    dual = DualBranchNet(TINY.network).eval()
    dual.load_state_dict(load_checkpoint(checkpoint)["average"])
    patch = torch.randn(2, 1, *TINY.patch)
    with torch.inference_mode():
        wanted = dual(patch, both=False)[0].numpy()
    for device in ("cpu", "cpu-torch"):
        assert np.abs(load_model(bundle, device, threads=1).predict(patch.numpy()) - wanted).max() < 1e-3


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
        export(checkpoint, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_weights_that_differ_from_the_checkpoint_are_refused(bundle: Path) -> None:
    spec = ModelSpec.load(bundle)
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="The safetensors network differs"):
        check_agreement(DualBranchNet(spec.network), SegmentationNet(spec.network), bundle / "model.onnx", spec)


def test_model_of_a_stopped_run_says_so(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = tmp_path / "stopped.pt"
    save_checkpoint(stopped, load_checkpoint(checkpoint) | {"complete": False, "step": 1})
    assert main([str(stopped), "-o", str(tmp_path / "model")]) == 0
    assert f"Warning: {stopped} is of a run stopped at step 1 of 2; the model says so" in capsys.readouterr().err
    assert ModelSpec.load(tmp_path / "model").provenance["complete"] is False
    assert main([str(checkpoint), "-o", str(tmp_path / "model")]) == 0
    assert "is of a run stopped" not in capsys.readouterr().err


def test_exported_model_is_a_start_for_fine_tuning(bundle: Path, prepared: Path, tmp_path: Path) -> None:
    still = dataclasses.replace(CONFIG, finetune=Stage(epochs=1, iterations=1, lr=0.0, weight_decay=0.0))
    assert finetune(prepared, tmp_path / "run", still, init=bundle)
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


def test_pretraining_checkpoint_is_refused(tmp_path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain(prepared, tmp_path, CONFIG)
    assert main([str(tmp_path / "pretrain.pt"), "-o", str(tmp_path / "model")]) == 2
    assert "export needs one of finetune" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
