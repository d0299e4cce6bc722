from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.config import Config
from training.finetune import main


def test_command_overrides_any_field_and_ends_in_a_sentence(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--preset", "tiny", "-o", str(tmp_path / "run")]
    settings = ["--finetune.epochs", "1", "--finetune.iterations", "1", "--losses.tau", "0.2", "--workers", "0"]
    assert main([*command, "--data", str(prepared), *settings]) == 0
    assert "finetune 1/1" in capsys.readouterr().err
    config: Config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["losses"]["tau"] == 0.2  # type: ignore[index]
    assert main([*command, "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("Error: ")
