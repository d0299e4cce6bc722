"""`--compile`: the loop around a compiled network, with a compiler that leaves the layers as they are."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from training.checkpoint import load_checkpoint
from training.config import TINY, Stage
from training.finetune import RECIPES, finetune
from training.pretrain import pretrain

CONFIG = dataclasses.replace(TINY, finetune=Stage(epochs=2, iterations=2, ema=0.9), precision="32-true", threads=1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was compiled."""
    seen: list[object] = []
    original = torch.compile

    def fast(model: torch.nn.Module, **others: object) -> object:
        seen.append(model)
        return original(model, **(others | {"backend": "eager"}))  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "compile", functools.wraps(original)(fast))
    return seen


@pytest.mark.parametrize("method", ["dbdmp", "cross_entropy"])
def test_compiled_fine_tuning_gives_the_same_weights(prepared: Path, tmp_path: Path, calls, method) -> None:
    for name, compiled in (("plain", False), ("compiled", True)):
        assert bool(calls) is False
        config = dataclasses.replace(CONFIG, compile=compiled)
        assert finetune(prepared, tmp_path / name, config, recipe=RECIPES[method])
    assert calls
    plain, compiled = (load_checkpoint(tmp_path / name / "finetune.pt") for name in ("plain", "compiled"))
    for part in ("model", "average"):
        assert plain[part].keys() == compiled[part].keys()
        for name, value in plain[part].items():
            torch.testing.assert_close(compiled[part][name], value, rtol=1e-4, atol=1e-6)


def test_compiled_pre_training_passes_on_its_weights(prepared: Path, tmp_path: Path, calls) -> None:
    config = dataclasses.replace(CONFIG, compile=True)
    assert pretrain(prepared, tmp_path / "pretrain", config)
    assert finetune(prepared, tmp_path / "finetune", config, tmp_path / "pretrain" / "pretrain.pt")
    assert len(calls) >= 2
