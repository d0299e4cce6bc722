"""Bundles of tiny networks, untrained or constant. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from lnq.files import file_sha256
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import (
    ONNX_NAME,
    WEIGHTS_NAME,
    ModelSpec,
    NetworkSpec,
    Normalisation,
    PostProcessing,
    member_file,
)

NETWORK = NetworkSpec(channels=(4, 8), kernels=((1, 3, 3), (3, 3, 3)), strides=((1, 2, 2),), dropout=(0.0, 0.0))
PATCH = (16, 32, 32)


def untrained(seed: int) -> SegmentationNet:
    """A network of two levels with random weights."""
    torch.manual_seed(seed)
    return SegmentationNet(NETWORK).eval()


def constant(probability: float) -> SegmentationNet:
    """A network that gives every voxel the same probability of node."""
    network = untrained(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        network.get_parameter("decoder.head.bias")[1] = math.log(probability / (1 - probability))
    return network


def write_bundle(bundle: Path, networks: Sequence[SegmentationNet]) -> Path:
    """A complete bundle of these networks."""
    sums = {}
    for number, network in enumerate(networks, start=1):
        weights, onnx = member_file(WEIGHTS_NAME, number), member_file(ONNX_NAME, number)
        save_file(network.state_dict(), bundle / weights)
        torch.onnx.export(
            network,
            (torch.zeros(2, 1, *PATCH),),
            bundle / onnx,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
        sums |= {name: file_sha256(bundle / name) for name in (weights, onnx)}
    ModelSpec(
        network=NETWORK,
        patch=PATCH,
        spacing_mm=(6.0, 5.0, 5.0),
        normalisation=Normalisation("ct", clip_hu=(-160.0, 240.0), mean=40.0, std=100.0),
        postprocess=PostProcessing(min_volume_mm3=5000.0),
        sha256=sums,
    ).save(bundle)
    return bundle
