"""One run in several processes: take common decisions, gather what each process holds, and end the run."""

from __future__ import annotations

import gc

import torch
import torch.distributed as dist
from torch import Tensor

from training.method.whole_batch import several_processes


def in_any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process. All processes get the same answer. `device` is this process's."""
    if not several_processes():
        return flag
    flags = torch.tensor([int(flag)], device=device)
    dist.all_reduce(flags)
    return bool(flags.item())


def gather(x: Tensor, device: torch.device) -> Tensor:
    """Stack the tensors `x` of all processes, equal in shape, as [processes, ...] on the CPU.

    `device` is this process's.
    """
    if not several_processes():
        return x.cpu()[None]
    own = x.to(device)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return torch.stack(parts).cpu()


def leave() -> None:
    """Leave the process group: a process that exits while gloo's threads still run may be aborted.

    Call this when no DistributedDataParallel network is in use any more. Whoever releases the group last waits for
    gloo's threads, and these may wait for Python's lock to drop a tensor. `destroy_process_group` gives up the lock. A
    network's destructor does not, and would wait forever.
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # networks are in reference cycles
        dist.destroy_process_group()
