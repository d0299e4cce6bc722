"""`--compile` and `--channels-last`: what is trained is the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.config import TINY, Stage
from training.engine.checkpoint import load_checkpoint
from training.engine.finetuning import finetune
from training.engine.pretraining import pretrain
from training.method.step import CROSS_ENTROPY, DBDMP

CONFIG = dataclasses.replace(TINY, finetune=Stage(epochs=2, iterations=2, ema=0.9), precision="32-true", threads=1)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A compiler that leaves the layers as they are; the list grows by an entry each time what it made is run."""
    seen: list[int] = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., object]:
        def run(*given: object) -> object:
            seen.append(1)
            return graph(*given)

        return run

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **_: original(model, backend=backend))  # Fabric gives it again
    return seen


def weights(path: Path) -> dict[str, Tensor]:
    checkpoint = load_checkpoint(path / "finetune.pt")
    return {f"{part}.{name}": value for part in ("model", "average") for name, value in checkpoint[part].items()}


@pytest.mark.parametrize("method", ["dbdmp", pytest.param("cross_entropy", marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", ["compile", "channels_last"])
def test_other_ways_to_run_the_network_give_the_same_weights(prepared: Path, tmp_path: Path, runs, way, method) -> None:
    objective = {"dbdmp": DBDMP, "cross_entropy": CROSS_ENTROPY}[method]
    assert finetune(prepared, tmp_path / "plain", CONFIG, objective=objective)
    assert runs == []
    assert finetune(prepared, tmp_path / "other", dataclasses.replace(CONFIG, **{way: True}), objective=objective)
    assert len(runs) >= (4 if way == "compile" else 0)  # steps
    plain, other = weights(tmp_path / "plain"), weights(tmp_path / "other")
    assert plain.keys() == other.keys()
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_fused_layers_give_the_same_weights(prepared: Path, tmp_path: Path) -> None:
    without = dataclasses.replace(CONFIG, auxiliary_dropout=0.0)  # the compiler draws dropout's numbers otherwise
    for name, compiled in (("plain", False), ("compiled", True)):
        assert finetune(prepared, tmp_path / name, dataclasses.replace(without, compile=compiled))
    plain, other = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


def test_compiled_pre_training_passes_on_its_weights(prepared: Path, tmp_path: Path, runs) -> None:
    config = dataclasses.replace(CONFIG, compile=True)
    assert pretrain(prepared, tmp_path / "pretrain", config)
    assert finetune(prepared, tmp_path / "finetune", config, tmp_path / "pretrain" / "pretrain.pt")
    assert len(runs) >= 10
