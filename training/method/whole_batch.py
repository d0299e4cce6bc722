"""Sums over the whole batch in a run of several processes, each of which holds a part of the batch.

Losses are ratios of sums over the whole batch, so sums are added over the processes before they are divided. In a
single process they stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Sum(torch.autograd.Function):
    """Sum over the processes, with the gradient that DistributedDataParallel needs.

    Each of P processes derives the same loss L from the same sums S = sum_r S_r, and DistributedDataParallel averages
    their gradients. Process r must therefore pass P dL/dS on to its S_r: the average over processes of P dL/dS dS_r/dw
    is then the gradient that one process with the whole batch would have.
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
    """Add scalar sums over this process's samples up to sums over the whole batch, with gradients as in `_Sum`.

    All processes must call it with the same number of sums, even those without samples, and all must derive the same
    loss from the results.
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


def share_of_batch(chosen: Sequence[bool], device: torch.device | None = None) -> float:
    """Fraction of the whole batch's samples that are chosen; `chosen` is of this process's samples.

    One process counts them without its device. Several add up on theirs, and wait for it.
    """
    counts = torch.tensor([float(sum(chosen)), float(len(chosen))])
    if several_processes():
        counts = counts.to(device)
        dist.all_reduce(counts)
    part, samples = counts.tolist()
    return float(part / samples) if samples else 0.0
