"""A bundle's network in torch, as the peers run it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load
from torch import nn

from lnq.inference.backends import available_cpus
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import WEIGHTS_NAME, ModelSpec


class Counter:
    """Counts how often a module is called."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        module.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1


def load_network(bundle: Path) -> tuple[ModelSpec, SegmentationNet]:
    """A bundle's specification, and its network with the weights. torch gets as many threads as there are CPUs."""
    torch.set_num_threads(available_cpus())
    spec = ModelSpec.load_single(bundle)
    network = SegmentationNet(spec.network)
    network.load_state_dict(load(spec.verified_bytes(bundle, WEIGHTS_NAME)))
    return spec, network.eval()
