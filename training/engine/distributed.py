"""One run in several processes: decisions that all of them take alike, what each holds, and the end of the run."""

from __future__ import annotations

import gc

import torch
import torch.distributed as dist
from torch import Tensor

from training.method.whole_batch import several_processes


def in_any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in one process at least; all get the same answer. `device` is this process's."""
    if not several_processes():
        return flag
    flags = torch.tensor([int(flag)], device=device)
    dist.all_reduce(flags)
    return bool(flags.item())


def gather(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of equal shape in all processes -> [processes, ...], on the CPU; `device` is this process's."""
    if not several_processes():
        return x.cpu()[None]
    own = x.to(device)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return torch.stack(parts).cpu()


def leave() -> None:
    """End this process's part in the group: one that exits with gloo's threads still running may be aborted.

    To be called when no network of DistributedDataParallel is in use any more. The last one to let go of the group
    waits for gloo's threads, and these may wait for Python's lock to drop a tensor: `destroy_process_group` releases
    the lock, the end of such a network does not, and would wait forever.
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # networks lie in reference cycles
        dist.destroy_process_group()
