"""Sums over the whole batch of a run of several processes, of which each holds its part of the batch.

Losses are ratios of sums over the whole batch, so the sums are added over the processes before they are divided. In a
single process nothing is added.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Sum(torch.autograd.Function):
    """Sum over the processes, whose gradient is the one DistributedDataParallel needs.

    Every process derives the same loss L from the same sums S = sum_r S_r, and DistributedDataParallel averages the
    processes' gradients. dL/dS, times the number of processes, is therefore what process r has to pass on to its S_r:
    the average over processes of P dL/dS dS_r/dw is the sum that one process with the whole batch would have.
    """

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * dist.get_world_size()


def several_processes() -> bool:
    """Whether this run has more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def over_batch(*sums: Tensor) -> tuple[Tensor, ...]:
    """Scalar sums over this process's samples -> sums over the whole batch, with gradients for the average over them.

    All processes must call it alike, with as many sums, also those that hold no sample; and all must derive the same
    loss from what it returns.
    """
    if not several_processes():
        return sums
    total: Tensor = _Sum.apply(torch.stack(sums))  # type: ignore[no-untyped-call]  # torch's own
    return total.unbind()


def batch_min(x: Tensor) -> Tensor:
    """The smallest element over the whole batch, without gradient; +inf where there is none."""
    x = x.detach()
    least = x.min() if x.numel() else x.new_full((), torch.inf)
    if several_processes():
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return least


def share_of_batch(chosen: Tensor) -> float:
    """Part of the whole batch's samples for which the mask [B] is true; `chosen` is that of this process's samples."""
    part, samples = over_batch(chosen.float().sum(), chosen.new_full((), len(chosen), dtype=torch.float32))
    return float(part / samples)
