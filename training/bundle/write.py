"""Write a bundle: encoder and main decoder, for torch and for the CPU runtime.

Nothing is written unless the checkpoint's main branch, the safetensors file and the ONNX file agree.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lnq.files import file_sha256, replace_files
from lnq.inference.backends import openvino_core
from lnq.inference.network import SegmentationNet
from lnq.inference.sliding_window import Predict
from lnq.inference.spec import INT8_NAME, INT8_WEIGHTS_NAME, ONNX_NAME, SPEC_NAME, WEIGHTS_NAME, ModelSpec
from training.bundle.spec import bundle_spec
from training.engine.checkpoint import load_checkpoint
from training.method.network import DualBranchNet, main_branch

TOLERANCE = 1e-3
"""Largest difference of two logits that export accepts; multiplied by the largest logit where that is above 1."""


def export(
    checkpoint_path: Path,
    output: Path,
    threshold: float = 0.5,
    peak_threshold: float = 0.0,
    window_step: float = 0.5,
    mirror: int = 0,
) -> ModelSpec:
    """Write spec.json, weights.safetensors and model.onnx to `output`. An 8-bit network there is deleted.

    Raises ValueError where the checkpoint is not of a fine-tuning, where its data were not cropped as its configuration
    says, or where the three forms of the network differ.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    if checkpoint["stage"] != "finetune":
        raise ValueError(f"{checkpoint_path} is a checkpoint of {checkpoint['stage']}: export needs one of finetune")
    spec = bundle_spec(checkpoint, threshold, peak_threshold)
    spec = dataclasses.replace(spec, window_step=window_step, mirror=mirror)
    weights = checkpoint["average"] or checkpoint["model"]
    dual = DualBranchNet(spec.network).eval()
    dual.load_state_dict(weights)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        part = Path(folder)
        (part / WEIGHTS_NAME).write_bytes(save({name: v.contiguous() for name, v in main_branch(weights).items()}))
        network = SegmentationNet(spec.network).eval()
        network.load_state_dict(load_file(part / WEIGHTS_NAME))
        write_onnx(network, spec, part / ONNX_NAME)
        check_agreement(dual, network, part / ONNX_NAME, spec)
        sums = {name: file_sha256(part / name) for name in (WEIGHTS_NAME, ONNX_NAME)}
        spec = dataclasses.replace(spec, sha256=sums)
        spec.save(part)
        output.mkdir(exist_ok=True)
        replace_files(part, output, (WEIGHTS_NAME, ONNX_NAME, SPEC_NAME))  # the last holds the others' sums
        for name in (INT8_NAME, INT8_WEIGHTS_NAME):  # made from the earlier weights
            (output / name).unlink(missing_ok=True)
    return spec


def write_onnx(network: nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write the network with its weights as ONNX, for batches of any size and patches of the specification's size."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # silences warnings on other packages' operators
    example = torch.zeros(2, spec.network.in_channels, *spec.patch)
    torch.onnx.export(
        network,
        (example,),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        external_data=False,
        dynamo=True,
        verbose=False,
    )


def check_agreement(dual: nn.Module, network: nn.Module, onnx: Path, spec: ModelSpec, patches: int = 2) -> float:
    """Largest difference between the logits of the three forms on random patches.

    Raises ValueError where it is above the tolerance or not finite.
    """
    generator = torch.Generator().manual_seed(0)
    run = onnx_runner(onnx)
    worst = 0.0
    for _ in range(patches):
        patch = torch.randn(1, spec.network.in_channels, *spec.patch, generator=generator)
        with torch.inference_mode():
            wanted: Tensor = dual(patch, both=False)[0]
            forms = {"safetensors": network(patch), "ONNX": torch.from_numpy(run(patch.numpy()))}
        for name, logits in forms.items():
            difference = float((logits - wanted).abs().max())
            allowed = TOLERANCE * max(1.0, float(wanted.abs().max()))
            if not difference < allowed:  # NaN is refused too
                raise ValueError(
                    f"The {name} network differs from the checkpoint by {difference:.2g} in a logit, "
                    f"more than {allowed:.2g}: nothing was written"
                )
            worst = max(worst, difference)
    return worst


def onnx_runner(path: Path) -> Predict:
    """A function from patches, float32 [1, C, Z, Y, X], to logits. It runs the file as inference does, in fp32."""
    model = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(patch: np.ndarray) -> np.ndarray:
        logits: np.ndarray = model(patch)[0]
        return logits.copy()

    return run
