from __future__ import annotations

from pathlib import Path

import pytest

from training.engine.checkpoint import load_checkpoint
from training.pretrain import main

OPTIONS = ["--preset", "tiny", "--pretrain.epochs", "1", "--pretrain.iterations", "1", "--picture-every", "0"]


def test_command_pre_trains_what_its_options_say(prepared: Path, tmp_path: Path) -> None:
    assert main([*OPTIONS, "--data", str(prepared), "-o", str(tmp_path / "run"), "--annotated", "partial"]) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "pretrain.pt")
    assert checkpoint["step"] == 1 and list(checkpoint["facts"]["cases"]) == ["case-00", "case-01"]


def test_folder_without_cases_ends_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OPTIONS, "--data", str(tmp_path), "-o", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith(f"Error: {tmp_path} holds no prepared case: run python -m training")
