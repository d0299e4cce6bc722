"""Run by test_loop.py: fine-tunes again and again, killed (SIGKILL) at random moments, each time resumed.

    python killing.py DATA OUTPUT KILLS SEED

OUTPUT/whole is a run that was left alone. The others, OUTPUT/0 and on, were killed, KILLS times altogether.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch.utils.tensorboard  # noqa: F401  (once, not in every process)
from helpers.training_runs import RESUMED

from training.config import Stage
from training.engine.finetuning import finetune

# Many checkpoints
CONFIG = dataclasses.replace(RESUMED, finetune=Stage(epochs=12, iterations=2, ema=0.9), picture_every=0)


def start(data: Path, output: Path) -> int:
    """A process that trains, or resumes, in `output`. Forked, so that it starts at once."""
    process = os.fork()
    if process == 0:
        os._exit(0 if finetune(data, output, CONFIG) else 1)
    return process


def ended(process: int) -> bool:
    """Wait for the process: whether it came to its end, and was not killed. Raises RuntimeError where it failed."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"The training ended with status {status}")
    return status == 0


if __name__ == "__main__":
    data, output, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    moments = random.Random(int(sys.argv[4]))
    begun = time.monotonic()
    assert ended(start(data, output / "whole"))
    duration = time.monotonic() - begun
    run = 0
    while kills:
        process = start(data, output / str(run))
        time.sleep(moments.uniform(0.0, duration))
        os.kill(process, signal.SIGKILL)
        if ended(process):
            run += 1
        else:
            kills -= 1
    assert ended(start(data, output / str(run)))
