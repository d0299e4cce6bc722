from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from helpers.training_runs import FullDisk

from training.engine import checkpoint as checkpoint_module
from training.engine.checkpoint import load_checkpoint, save_checkpoint


def test_checkpoint_that_cannot_be_written_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "finetune.pt"
    save_checkpoint(path, {"format": 1, "value": 1})
    monkeypatch.setattr(checkpoint_module, "open", FullDisk, raising=False)
    sentence = f"Cannot write {path}: No space left on device. The last good checkpoint is kept."
    with pytest.raises(OSError, match=f"^{re.escape(sentence)}$"):
        save_checkpoint(path, {"format": 1, "value": torch.zeros(1000)})
    assert load_checkpoint(path)["value"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["finetune.pt"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_what_is_no_checkpoint_is_refused_with_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "finetune.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="no checkpoint at|not a readable checkpoint"):
        load_checkpoint(path)


def test_checkpoint_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "new.pt")
    with pytest.raises(ValueError, match="format 99"):
        load_checkpoint(tmp_path / "new.pt")
