"""The bundle that is measured: a folder of the user's, or the paper's network with random weights."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save_file

from lnq.files import file_sha256
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import ONNX_NAME, WEIGHTS_NAME, ModelSpec, NetworkSpec, Normalisation
from training.bundle.write import write_onnx

PAPER = "paper"  # names the paper's network instead of a folder
PAPER_SPEC = ModelSpec(
    network=NetworkSpec(),
    patch=(64, 128, 224),
    spacing_mm=(3.0, 0.8, 0.8),
    normalisation=Normalisation("zscore"),
    window_step=0.75,
    provenance={"method": "random weights, for measuring time alone"},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which bundle is measured, and where the results go."""
    parser.add_argument("--bundle", required=True, help=f"a bundle's folder, or {PAPER}: its network, random weights")
    parser.add_argument("-o", "--output", type=Path, required=True)


def find_bundle(name: str, folder: Path) -> Path:
    """The folder `name`, or for PAPER a bundle that is made in `folder`."""
    return write_random_bundle(PAPER_SPEC, folder / PAPER) if name == PAPER else Path(name)


def write_random_bundle(spec: ModelSpec, bundle: Path, seed: int = 0) -> Path:
    """Write a complete bundle of an untrained network. The same seed gives the same weights."""
    bundle.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = SegmentationNet(spec.network).eval()
    save_file(network.state_dict(), bundle / WEIGHTS_NAME)
    write_onnx(network, spec, bundle / ONNX_NAME)
    sums = {name: file_sha256(bundle / name) for name in (WEIGHTS_NAME, ONNX_NAME)}
    dataclasses.replace(spec, sha256=sums).save(bundle)
    return bundle
