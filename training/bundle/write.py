"""Write a bundle: encoder and main decoder, for torch and for the CPU runtime.

Nothing is written unless each checkpoint's main branch, its safetensors file and its ONNX file agree.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lnq.files import file_sha256, replace_files
from lnq.inference.backends import openvino_core
from lnq.inference.network import SegmentationNet
from lnq.inference.sliding_window import Predict
from lnq.inference.spec import ONNX_NAME, SPEC_NAME, WEIGHTS_NAME, ModelSpec, kind_of_file, member_file
from training.bundle.spec import BundleMember, joint_spec, read_member
from training.method.network import DualBranchNet, main_branch

TOLERANCE = 1e-3
"""Largest difference of two logits that export accepts; multiplied by the largest logit where that is above 1."""


def export(
    checkpoints: Sequence[Path],
    output: Path,
    threshold: float = 0.5,
    peak_threshold: float = 0.0,
    window_step: float = 0.5,
    mirror: int = 0,
) -> ModelSpec:
    """Write spec.json, and weights.safetensors and model.onnx of each checkpoint, to `output`.

    Other networks there, of 8 bits or of an earlier bundle, are deleted. Raises ValueError where a checkpoint is not of
    a fine-tuning, where its data were not cropped as its configuration says, where the three forms of a network differ,
    and where the checkpoints are no ensemble: see `joint_spec`.
    """
    members = [read_member(path) for path in checkpoints]
    spec = joint_spec(members)
    spec = dataclasses.replace(
        spec, threshold=threshold, peak_threshold=peak_threshold, window_step=window_step, mirror=mirror
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        part = Path(folder)
        sums: dict[str, str] = {}
        for number, member in enumerate(members, start=1):
            names = [member_file(kind, number) for kind in (WEIGHTS_NAME, ONNX_NAME)]
            _write_networks(member, part / names[0], part / names[1])
            sums |= {name: file_sha256(part / name) for name in names}
        spec = dataclasses.replace(spec, sha256=sums)
        spec.save(part)
        output.mkdir(exist_ok=True)
        replace_files(part, output, (*sums, SPEC_NAME))  # the last holds the others' sums
        for path in output.iterdir():
            if kind_of_file(path.name) and path.name not in sums:  # made from other weights
                path.unlink()
    return spec


def _write_networks(member: BundleMember, safetensors: Path, onnx: Path) -> None:
    """Write a member's encoder and main decoder in both forms, and check them."""
    dual = DualBranchNet(member.spec.network).eval()
    dual.load_state_dict(member.weights)
    safetensors.write_bytes(save({name: v.contiguous() for name, v in main_branch(member.weights).items()}))
    network = SegmentationNet(member.spec.network).eval()
    network.load_state_dict(load_file(safetensors))
    write_onnx(network, member.spec, onnx)
    check_agreement(dual, network, onnx, member.spec)


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
