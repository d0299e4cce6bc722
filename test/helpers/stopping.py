"""Run by test_distributed.py under torchrun: fine-tunes, and process 1 gets a SIGTERM with its second sample."""

from __future__ import annotations

import os
import signal
import sys
from unittest.mock import patch

from training.data.dataset import FinetuneDataset, Sample
from training.finetune import main

load, loaded = FinetuneDataset.__getitem__, 0


def load_and_stop(self: FinetuneDataset, index: int) -> Sample:
    """A sample; the second one of process 1 with the signal."""
    global loaded
    loaded += 1
    if loaded == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return load(self, index)


if __name__ == "__main__":
    with patch.object(FinetuneDataset, "__getitem__", load_and_stop):
        sys.exit(main(sys.argv[1:]))
