"""Proposing, applying a review and improving, killed (SIGKILL) at random moments: they go on and end the same."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.raw_pairs import write_pair
from helpers.reviews import decide, write_decisions

from lnq.image.volume import Volume
from training.review.write import read_found

pytestmark = pytest.mark.slow
KILLS = 6


def bytes_below(folder: Path, leave_out: tuple[str, ...] = ()) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {str(path.relative_to(folder)): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(leave_out)}


def run_killed(module: str, arguments: list[str], whole: Path, killed: Path, moments: random.Random) -> None:
    """Run a command whole, and again with another output, killed until it comes to its end."""

    def start(output: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, *arguments, "-o", str(output)]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    begun = time.monotonic()
    assert start(whole).wait() == 0
    duration = time.monotonic() - begun
    for _ in range(KILLS):
        process = start(killed)
        time.sleep(moments.uniform(0.3, 1.0) * duration)
        process.kill()
        process.wait()
    assert start(killed).wait() == 0


def test_killed_commands_go_on_and_leave_what_they_were_given(thorax: Volume, bundle: Path, tmp_path: Path) -> None:
    moments = random.Random(0)
    raw, said = tmp_path / "raw", tmp_path / "said"
    for number in range(1, 6):
        write_pair(raw, f"lnq2023-train-000{number}", thorax)
    given = bytes_below(raw) | bytes_below(bundle)
    found, labels, better = (
        (tmp_path / f"{name}-whole", tmp_path / f"{name}-killed") for name in ("found", "labels", "better")
    )
    propose = [str(raw), "--models", str(bundle), "--threshold", "0.01", "--limits.least-mm", "0", "--device", "cpu"]
    run_killed("training.propose", propose, *found, moments)
    assert bytes_below(found[0]) == bytes_below(found[1])
    for folder in sorted(path for path in found[0].iterdir() if path.is_dir()):
        verdicts = {row["number"]: "node" for row in read_found(folder)["candidates"]}
        write_decisions(said / f"{folder.name}.decisions.json", decide(folder, verdicts))
    apply = [str(raw), "--candidates", str(found[0]), "--decisions", str(said)]
    run_killed("training.apply_review", apply, *labels, moments)
    tables = ("cases.csv",)  # which name the labels' own folder
    assert bytes_below(labels[0], tables) == bytes_below(labels[1], tables)
    improve = [
        str(labels[0] / "cases.csv"), "--model", str(bundle), "--finetune.epochs", "3", "--finetune.iterations", "2",
        "--device", "cpu", "--threads", "1",
    ]  # fmt: skip
    run_killed("training.improve", improve, *better, moments)
    for name in ("improve.md", "model/weights.safetensors", "prepared/splits.csv"):
        assert (better[0] / name).read_bytes() == (better[1] / name).read_bytes(), name
    assert bytes_below(raw) | bytes_below(bundle) == given
