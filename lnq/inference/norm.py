"""Instance normalisation that keeps the memory layout of what it gets.

PyTorch's own makes every input contiguous with channels first. Where convolutions want channels last, that costs two
copies and the faster convolutions. On a GPU it also leaves a whole channel to one block of threads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class InstanceNorm(nn.InstanceNorm3d):
    """`nn.InstanceNorm3d` with scale and shift: the same weights and the same numbers, except for rounding.

    A tensor [B, C, Z, Y, X] with channels last is normalised as it lies. Anything else goes to PyTorch's own, and so
    does a network that is exported, in which an instance norm then stays one operation.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or not lies_channels_last(x):
            return super().forward(x)
        if torch.compiler.is_compiling():
            return normalised(x, self.weight, self.bias, self.eps)
        result: Tensor = _BySample.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        return result


def lies_channels_last(x: Tensor) -> bool:
    """Whether [B, C, Z, Y, X] lies in memory with channels last, and not with channels first too."""
    return x.dim() == 5 and x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()


def channels_last(x: Tensor) -> Tensor:
    """The same [B, C, Z, Y, X] with channels last, also in its strides where there is a single channel."""
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last_3d)
    plain = x.contiguous()
    samples, _, planes, rows, columns = plain.stride()
    return plain.as_strided(plain.shape, (samples, 1, planes, rows, columns))


def normalised(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Instance norm as a formula, which a compiler fuses. Mean and variance are taken in single precision or better."""
    wide = x if x.dtype == torch.float64 else x.float()
    variance, mean = torch.var_mean(wide, dim=(2, 3, 4), keepdim=True, correction=0)
    scale = torch.rsqrt(variance + eps) * weight.view(1, -1, 1, 1, 1)
    return (wide * scale + (bias.view(1, -1, 1, 1, 1) - mean * scale)).to(x.dtype)


class _BySample(torch.autograd.Function):
    """Instance norm of channels-last tensors by PyTorch's batch norm of one sample at a time.

    The batch norm of a single sample is its instance norm, and its kernels read and write channels last.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        out = torch.empty_like(x)
        kept = torch.empty((2, *x.shape[:2]), dtype=weight.dtype, device=x.device)  # mean and 1 / deviation
        for i in range(len(x)):
            torch.ops.aten.native_batch_norm.out(
                x[i : i + 1], weight, bias, None, None, True, 0.0, eps,
                out=out[i : i + 1], save_mean=kept[0, i], save_invstd=kept[1, i],
            )  # fmt: skip
        ctx.save_for_backward(x, weight, kept)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, kept = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        of_x = torch.empty_like(x)
        of_weight, of_bias = torch.empty_like(kept[0]), torch.empty_like(kept[0])
        for i in range(len(x)):
            torch.ops.aten.native_batch_norm_backward.out(
                gradient[i : i + 1], x[i : i + 1], weight, None, None, kept[0, i], kept[1, i], True, ctx.eps,
                [True, True, True], out0=of_x[i : i + 1], out1=of_weight[i], out2=of_bias[i],
            )  # fmt: skip
        return of_x, of_weight.sum(dim=0), of_bias.sum(dim=0), None
