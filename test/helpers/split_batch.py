"""Run by test_distributed.py, once per process: every loss of this process's samples, and its gradient.

python split_batch.py RANK PROCESSES FOLDER
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from helpers.fixed_logits import FixedLogits
from torch import Tensor

from training.ablation.rows import ALL_ROWS
from training.config import TINY, Losses
from training.method import losses
from training.method.losses import Prediction
from training.method.step import DBDMP, Objective, finetuning_step, position_at
from training.method.whole_batch import share_of_batch

SPLITS = ((1, 3), (4, 0))
"""How many of the four samples each of two processes has."""

CONFIG = dataclasses.replace(TINY, losses=Losses(final=1.5, ramp=0.0))


def of_step(objective: Objective) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a whole training step on half of the samples annotated in full, where it tells them apart."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        label = y[:, 1].to(torch.uint8)
        sample = {"image": x, "label": label, "full": label.flatten(1).amax(dim=1) > 0}
        position = position_at(CONFIG, 0, 3, sample["full"].tolist())
        return finetuning_step(objective, CONFIG)(FixedLogits(x, x.flip(1) * 0.5), sample, position)["loss"]

    return loss


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda x, y: losses.cross_entropy(Prediction(x), y),
    "reverse": lambda x, y: losses.reverse_cross_entropy(Prediction(x), y),
    "symmetric": lambda x, y: losses.symmetric_cross_entropy(Prediction(x), y),
    "partial": lambda x, y: losses.partial_cross_entropy(Prediction(x), y),
    "tversky": lambda x, y: losses.tversky_loss(Prediction(x), y),
    "full": lambda x, y: losses.full_supervised_loss(Prediction(x), y, Losses()),
    "full, batch": lambda x, y: losses.full_supervised_loss(Prediction(x), y, Losses(batch_dice=True, hardest=0.3)),
    "full, weighed": lambda x, y: losses.full_supervised_loss(
        Prediction(x), y, Losses(batch_dice=True), weight=1.0 + 2.0 * y[:, 1]
    ),
    "reconstruction": losses.reconstruction_loss,
    "consensus": lambda x, y: losses.consensus_loss(Prediction(x), Prediction(x.flip(1) * 0.5), 0.8 * y + 0.1),
    "pseudo dice": lambda x, y: losses.pseudo_dice_loss(Prediction(x), 0.8 * y + 0.1),
    **{objective.name: of_step(objective) for objective in (DBDMP, *(row.objective for row in ALL_ROWS.values()))},
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
        share = torch.tensor(share_of_batch([rank == 0] * split[rank]))
        torch.save(found | {"share": (share, torch.empty(0))}, f"{folder}/{number}-{rank}.pt")
    dist.destroy_process_group()
