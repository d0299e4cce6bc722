"""The bundle that is measured: one of the user's, or the paper's network with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save_file

from lnq.files import file_sha256
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import ONNX_NAME, WEIGHTS_NAME, ModelSpec, NetworkSpec, Normalisation
from training.bundle.export import write_onnx

PAPER = "paper"
PAPER_SPEC = ModelSpec(
    network=NetworkSpec(),
    patch=(64, 128, 224),
    spacing_mm=(3.0, 0.8, 0.8),
    normalisation=Normalisation("zscore"),
    window_step=0.75,
    provenance={"method": "random weights, for measuring time alone"},
)


def find_bundle(name: str, folder: Path) -> Path:
    """The bundle's folder: `name`, or for "paper" one made in `folder`."""
    return write_random_bundle(PAPER_SPEC, folder / PAPER) if name == PAPER else Path(name)


def write_random_bundle(spec: ModelSpec, bundle: Path, seed: int = 0) -> Path:
    """A complete bundle of an untrained network: the same seed gives the same weights."""
    bundle.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = SegmentationNet(spec.network).eval()
    save_file(network.state_dict(), bundle / WEIGHTS_NAME)
    write_onnx(network, spec, bundle / ONNX_NAME)
    sums = {name: file_sha256(bundle / name) for name in (WEIGHTS_NAME, ONNX_NAME)}
    dataclasses.replace(spec, sha256=sums).save(bundle)
    return bundle
