"""Run by test_distributed.py, once per process: every loss of this process's samples, and its gradient.

python split_batch.py RANK PROCESSES FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from training.engine.distributed import share_of_batch
from training.method import losses

SPLITS = ((1, 3), (4, 0))
"""How many of the four samples each of two processes has."""

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": losses.cross_entropy,
    "reverse": losses.reverse_cross_entropy,
    "symmetric": losses.symmetric_cross_entropy,
    "partial": losses.partial_cross_entropy,
    "tversky": losses.tversky_loss,
    "supervised": losses.supervised_loss,
    "full": losses.full_supervised_loss,
    "reconstruction": losses.reconstruction_loss,
    "consensus": lambda x, y: losses.consensus_loss(x, x.flip(1) * 0.5, 0.8 * y + 0.1),
    "total": lambda x, y: losses.total_loss(x, x.flip(1) * 0.5, y, weight=1.5, theta=0.3),
}


def batch() -> tuple[Tensor, Tensor]:
    """Four samples, logits and one-hot annotation [4, 2, 2, 3, 3]; the first two have no annotated voxel."""
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(4, 2, 2, 3, 3, dtype=torch.float64, generator=generator)
    node = (torch.rand(4, 2, 3, 3, generator=generator) > 0.7).double()
    node[:2] = 0.0
    return logits, torch.stack([1.0 - node, node], dim=1)


def losses_and_gradients(logits: Tensor, y: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Each loss by name, with its gradient for the logits."""
    results = {}
    for name, function in LOSSES.items():
        x = logits.clone().requires_grad_()
        loss = function(x, y)
        loss.backward()
        assert x.grad is not None
        results[name] = (loss.detach(), x.grad)
    return results


if __name__ == "__main__":
    rank, processes, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    for number, split in enumerate(SPLITS):
        logits, y = (torch.split(x, split)[rank] for x in batch())
        found = losses_and_gradients(logits, y)
        share = torch.tensor(share_of_batch(torch.full((split[rank],), rank == 0)))
        torch.save(found | {"share": (share, torch.empty(0))}, f"{folder}/{number}-{rank}.pt")
    dist.destroy_process_group()
