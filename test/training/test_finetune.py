from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT

from training.config import Config


def test_command_overrides_any_field_and_ends_in_a_sentence(prepared: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.finetune", "--preset", "tiny", "-o", str(tmp_path / "run")]
    settings = ["--finetune.epochs", "1", "--finetune.iterations", "1", "--losses.tau", "0.2", "--workers", "0"]
    done = subprocess.run(
        [*command, "--data", str(prepared), *settings], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "finetune 1/1" in done.stderr
    config: Config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["losses"]["tau"] == 0.2  # type: ignore[index]
    failed = subprocess.run([*command, "--data", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.strip().splitlines()[-1].startswith("Error: ")
