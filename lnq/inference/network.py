"""The residual encoder (like V-Net), the decoder, and the network that inference runs (METHOD section 3).

Arrays are [B, C, Z, Y, X] in normalised units. A specification gives channels, kernels, strides and dropout per level.
Convolutions have a bias although a norm follows, as in the paper: with its numbers there are 28.72 M parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lnq.inference.norm import InstanceNorm
from lnq.inference.spec import IntTriple, NetworkSpec


def _activation() -> nn.Module:
    return nn.LeakyReLU(0.01, inplace=True)


def _convolution(in_channels: int, out_channels: int, kernel: IntTriple) -> nn.Module:
    z, y, x = kernel
    return nn.Conv3d(in_channels, out_channels, kernel, padding=(z // 2, y // 2, x // 2))


class Block(nn.Module):
    """Convolution, norm, LeakyReLU, dropout, convolution, norm, then the residual is added, then LeakyReLU.

    The residual is a tensor passed to `forward`, or else the block's input. Where the channel count changes, the input
    goes through a 1x1x1 convolution and a norm.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: IntTriple, dropout: float, residual: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(
            _convolution(in_channels, out_channels, kernel), InstanceNorm(out_channels), _activation()
        )
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Sequential(_convolution(out_channels, out_channels, kernel), InstanceNorm(out_channels))
        self.activation = _activation()
        self.shortcut: nn.Module = nn.Identity()
        if residual and in_channels != out_channels:
            self.shortcut = nn.Sequential(
                _convolution(in_channels, out_channels, (1, 1, 1)), InstanceNorm(out_channels)
            )

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        shortcut = self.shortcut(x) if residual is None else residual
        return self.activation(self.second(self.dropout(self.first(x))) + shortcut)


class Encoder(nn.Module):
    """[B, in_channels, Z, Y, X] -> one feature map per level, finest first; the last is the bottleneck."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        channels = spec.channels
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv3d(a, b, stride, stride), InstanceNorm(b), _activation())
            for a, b, stride in zip(channels, channels[1:], spec.strides, strict=False)
        )
        inputs = (spec.in_channels, *channels[1:])
        self.blocks = nn.ModuleList(
            Block(a, b, kernel, dropout, residual=True)
            for a, b, kernel, dropout in zip(inputs, channels, spec.kernels, spec.dropout, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.blocks[0](x)]
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            features.append(block(down(features[-1])))
        return features


class Decoder(nn.Module):
    """The encoder's feature maps -> [B, head_channels, Z, Y, X], before any softmax."""

    def __init__(self, spec: NetworkSpec, head_channels: int) -> None:
        super().__init__()
        levels = list(zip(spec.channels, spec.channels[1:], spec.strides, spec.kernels, strict=False))[::-1]
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose3d(coarse, fine, stride, stride), InstanceNorm(fine), _activation())
            for fine, coarse, stride, _ in levels
        )
        self.blocks = nn.ModuleList(
            Block(2 * fine, fine, kernel, dropout=0.0, residual=False) for fine, _, _, kernel in levels
        )
        self.head = nn.Conv3d(spec.channels[0], head_channels, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, block, skip in zip(self.up, self.blocks, features[-2::-1], strict=True):
            upsampled = up(x)
            x = block(torch.cat([upsampled, skip], dim=1), residual=upsampled)
        return self.head(x)


class SegmentationNet(nn.Module):
    """The shipped network: encoder and main decoder. [B, in_channels, Z, Y, X] -> logits [B, classes, Z, Y, X]."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.encoder = Encoder(spec)
        self.decoder = Decoder(spec, spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))
