from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.paths import HELPERS
from helpers.training_runs import ENVIRONMENT


@pytest.fixture(scope="module")
def split_batch() -> ModuleType:
    specification = importlib.util.spec_from_file_location("split_batch", HELPERS / "split_batch.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes found, for each split of the batch."""
    folder = tmp_path_factory.mktemp("parts")
    command = [sys.executable, str(HELPERS / "split_batch.py")]
    running = [subprocess.Popen([*command, rank, "2", str(folder)], env=ENVIRONMENT) for rank in ("0", "1")]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    return folder


@pytest.mark.parametrize("split", [0, 1], ids=["uneven", "a process without samples"])
def test_losses_and_gradients_are_those_of_the_whole_batch(split: int, parts: Path, split_batch: ModuleType) -> None:
    found = [torch.load(parts / f"{split}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, (loss, gradient) in split_batch.losses_and_gradients(*split_batch.batch()).items():
        for part in found:
            assert part[name][0].item() == pytest.approx(loss.item(), rel=1e-12), name
        averaged = torch.cat([part[name][1] for part in found]) / 2  # as DistributedDataParallel averages
        assert torch.allclose(averaged, gradient, rtol=1e-10, atol=1e-14), name
    assert [part["share"][0].item() for part in found] == [split_batch.SPLITS[split][0] / 4] * 2
