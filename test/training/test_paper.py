"""The preset `paper`: its network against the published numbers, and a step of each stage on whatever machine."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT
from torch.utils.flop_counter import FlopCounterMode

from lnq.inference.network import SegmentationNet
from training.config import PAPER
from training.method.network import DualBranchNet


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_network_has_the_papers_parameter_counts() -> None:
    with torch.device("meta"):
        main, dual = SegmentationNet(PAPER.network), DualBranchNet(PAPER.network)
    assert parameters(main) / 1e6 == pytest.approx(28.72, abs=0.005)
    assert parameters(dual) / 1e6 == pytest.approx(37.2, abs=0.05)


def test_main_branch_computes_286_gflop_per_patch() -> None:
    with torch.device("meta"):
        network, patch = SegmentationNet(PAPER.network).eval(), torch.empty(1, 1, *PAPER.patch)
        with FlopCounterMode(display=False) as counter:
            network(patch)
    assert counter.get_total_flops() / 1e9 == pytest.approx(286, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_real_step_fits_into_a_workstations_memory(
    tmp_path: Path, make_prepared: Callable[..., Path], stage: str
) -> None:
    command = [sys.executable, "-m", f"training.{stage}", "--preset", "paper", "-o", str(tmp_path / "run")]
    command += ["--data", str(make_prepared(tmp_path / "data", partial=2, full=0)), f"--{stage}.epochs", "1"]
    command += [f"--{stage}.iterations", "1", "--workers", "0", "--precision", "32-true", "--picture-every", "0"]
    subprocess.run(command, cwd=ROOT, check=True)
    run = json.loads((tmp_path / "run" / "config.json").read_text())
    print(f"{stage}: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.1f} GiB at most")
    assert (tmp_path / "run" / f"{stage}.pt").is_file()
    assert run["config"]["patch"] == [64, 128, 224]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 14 * 2**20
