"""A training step of nnU-Net v2's default 3-D network, to set this project's step beside it.

    python -m benchmarks.peers.step_nnunet -o docs/results

The network, deep supervision, Dice and cross entropy, optimiser and clipping are nnU-Net's own. The data is noise on
the device, so this is the step alone, without nnU-Net's loader. Writes training-step-nnunet.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import caption
from benchmarks.output import markdown_table
from lnq.files import write_text
from training.engine.machine import environment

PATCH = (128, 128, 128)
BATCH = 2
WARM_UP = 5


def default_network(features: Sequence[int] = (32, 64, 128, 256, 320, 320)) -> nn.Module:
    """The network that nnU-Net plans for a patch of 128 x 128 x 128 voxels: one channel, two classes."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    stages = len(features)
    network: nn.Module = PlainConvUNet(
        1, stages, list(features), nn.Conv3d, 3, [1, *[2] * (stages - 1)], 2, 2, 2, conv_bias=True,
        norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True}, deep_supervision=True,
    )  # fmt: skip
    return network


def default_loss(outputs: int) -> Any:
    """nnU-Net's Dice and cross entropy over all resolutions but the coarsest."""
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
    weights = [1 / 2**i for i in range(outputs)]
    if outputs > 1:
        weights[-1] = 0.0
    return DeepSupervisionWrapper(loss, [w / sum(weights) for w in weights])


def time_step(device: torch.device, patch: Sequence[int], repeats: int, network: nn.Module) -> tuple[float, float]:
    """Mean milliseconds of a step, and its TFLOP."""
    network = network.to(device)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.99, weight_decay=3e-5, nesterov=True)
    cuda = device.type == "cuda"
    scaler = torch.amp.GradScaler("cuda", enabled=cuda)
    x = torch.randn(BATCH, 1, *patch, device=device)
    with torch.no_grad():
        targets: list[Tensor] = [(out[:, :1] > 0).float() for out in network(x)]
    loss = default_loss(len(targets))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, enabled=cuda):
            value = loss(network(x), targets)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        scaler.step(optimizer)
        scaler.update()

    with FlopCounterMode(display=False) as counter:
        step()
    for _ in range(WARM_UP):
        step()
    if cuda:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(repeats):
        step()
    if cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begun) / repeats, counter.get_total_flops() / 1e12


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.step_nnunet", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--patch", type=int, nargs=3, default=PATCH, help="voxels (default: nnU-Net's 128 a side)")
    parser.add_argument("--features", type=int, nargs="+", default=(32, 64, 128, 256, 320, 320), help="of its stages")
    parser.add_argument("--repeats", type=int, default=30, help=f"after {WARM_UP} to warm up (default 30)")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, not {options.repeats}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    try:
        ms, tflop = time_step(device, options.patch, options.repeats, default_network(options.features))
        versions = {name: version(name) for name in ("torch", "nnunetv2")}
    except ImportError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    rows = [(f"{ms:.1f}", f"{tflop:.2f}", f"{1000 * tflop / ms:.1f}")]
    table = markdown_table(("ms a step", "TFLOP", "TFLOP/s"), rows, left=0)
    head = ["# A training step of nnU-Net's default network", ""]
    head += caption("benchmarks.peers.step_nnunet", arguments, versions, environment()["device"])
    options.output.mkdir(parents=True, exist_ok=True)
    write_text(options.output / "training-step-nnunet.md", "\n".join([*head, *table]))
    print("\n".join(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
