"""Make a model bundle from a fine-tuning checkpoint: encoder and main decoder, for torch and for the CPU runtime.

    python -m training.export RUN/finetune.pt -o model

Nothing is written unless the checkpoint's main branch, the safetensors file and the ONNX file agree.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lnq.files import file_sha256
from lnq.inference.backends import import_openvino
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import (
    INT8_NAME,
    INT8_WEIGHTS_NAME,
    ONNX_NAME,
    SPEC_NAME,
    WEIGHTS_NAME,
    ModelSpec,
    Normalisation,
    PostProcessing,
)
from training.command import run_command
from training.config import Config, config_from_dict
from training.data.prepared import DatasetInfo
from training.engine.checkpoint import Checkpoint, load_checkpoint
from training.engine.machine import environment
from training.method.network import DualBranchNet, main_branch

TOLERANCE = 1e-3
"""Largest difference of two logits that export accepts, times the largest logit where that is above 1."""

HU_WIDENING = 0.25  # of the percentile range, on each side
MAX_MIN_VOLUME_MM3 = 175.0  # the paper's; small real nodes must not be deleted by a number made for large ones


@dataclass(frozen=True)
class Export:
    """Export a fine-tuning checkpoint to a model bundle."""

    checkpoint: tyro.conf.Positional[Path]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("model")  # spec.json and weights are replaced
    threshold: float = 0.5  # on the probability; training.evaluate --tune-threshold chooses it
    peak_threshold: float = 0.0  # on the highest probability within a node; likewise
    window_step: float = 0.5  # in patches, the paper's; larger is faster, benchmarks.windows tells what it costs
    mirror: Literal[0, 1, 2, 4, 8] = 0  # flips to average each window over, unless process.py is told otherwise


def postprocessing_for(config: Config, info: DatasetInfo) -> PostProcessing:
    """METHOD section 7: the paper's numbers, or those of the training labels."""
    if config.paper_postprocess:
        return PostProcessing()
    low, high = info.clip_hu
    widening = HU_WIDENING * (high - low)
    return PostProcessing(
        hu_range=(low - widening, high + widening),
        min_volume_mm3=min(info.smallest_node_mm3, MAX_MIN_VOLUME_MM3),
    )


def bundle_spec(checkpoint: Checkpoint, threshold: float, peak_threshold: float) -> ModelSpec:
    """The specification of the checkpoint's model, without the files' check sums."""
    config = config_from_dict(checkpoint["config"])
    facts = checkpoint["facts"]
    info = DatasetInfo(**facts["dataset"])
    provenance: dict[str, Any] = {
        "method": facts["method"],
        "steps": checkpoint["step"],
        "complete": checkpoint["complete"],
        "pretraining": facts.get("pretraining"),
        "seed": config.seed,
        "data": {
            "used_cases": len(facts["cases"]),  # of the prepared ones, which the following describes
            "cases": info.cases,
            "partial_cases": info.partial_cases,
            "annotated_nodes": info.annotated_nodes,
            **info.provenance,
        },
        "averaged_weights": checkpoint["average"] is not None,
        "environment": environment(),
    }
    return ModelSpec(
        network=config.network,
        patch=config.patch,
        spacing_mm=config.spacing_mm,
        normalisation=Normalisation(**facts["normalisation"]),
        threshold=threshold,
        peak_threshold=peak_threshold,
        postprocess=postprocessing_for(config, info),
        provenance=provenance,
    )


def export(
    checkpoint_path: Path,
    output: Path,
    threshold: float = 0.5,
    peak_threshold: float = 0.0,
    window_step: float = 0.5,
    mirror: int = 0,
) -> ModelSpec:
    """Write spec.json, weights.safetensors and model.onnx into `output`; other files there stay but an 8-bit network.

    Raises ValueError where the checkpoint is not of a fine-tuning, or where the three forms of the network differ.
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
        save_file({name: value.contiguous() for name, value in main_branch(weights).items()}, part / WEIGHTS_NAME)
        network = SegmentationNet(spec.network).eval()
        network.load_state_dict(load_file(part / WEIGHTS_NAME))
        write_onnx(network, spec, part / ONNX_NAME)
        check_agreement(dual, network, part / ONNX_NAME, spec)
        sums = {name: file_sha256(part / name) for name in (WEIGHTS_NAME, ONNX_NAME)}
        spec = dataclasses.replace(spec, sha256=sums)
        spec.save(part)
        output.mkdir(exist_ok=True)
        for name in (WEIGHTS_NAME, ONNX_NAME, SPEC_NAME):  # the specification last: it names the others' sums
            (part / name).chmod(0o644)  # safetensors writes for the owner alone; a container runs as another user
            os.replace(part / name, output / name)
        for name in (INT8_NAME, INT8_WEIGHTS_NAME):  # of the weights that were there before
            (output / name).unlink(missing_ok=True)
    return spec


def write_onnx(network: nn.Module, spec: ModelSpec, path: Path) -> None:
    """Write the network with a batch of any size and patches of the specification's size, weights inside."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of the operators of other packages
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


def onnx_runner(path: Path) -> Any:
    """A function float32 [1, C, Z, Y, X] -> logits that runs the file as inference does, in fp32."""
    model = import_openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(patch: np.ndarray) -> np.ndarray:
        return model(patch)[0].copy()

    return run


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(Export, args=arguments)

    def work() -> bool:
        thresholds = (command.threshold, command.peak_threshold)
        spec = export(command.checkpoint, command.output, *thresholds, command.window_step, command.mirror)
        if not spec.provenance["complete"]:
            planned = config_from_dict(load_checkpoint(command.checkpoint)["config"]).finetune
            print(
                f"Warning: {command.checkpoint} is of a run stopped at step {spec.provenance['steps']} of "
                f"{planned.epochs * planned.iterations}; the model says so in its provenance",
                file=sys.stderr,
            )
        print(f"{command.output} holds the model; threshold {spec.threshold}, {spec.postprocess}", file=sys.stderr)
        return True

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
