"""A finished cell's row to vary, and a bench of the tiny size on small prepared cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from training.ablation.cell import Bench
from training.ablation.data import AblationData
from training.ablation.sizes import SIZES
from training.ablation.table import CellRow
from training.config import Stage

ROW = CellRow(
    size="small",
    settings="0123abcd",
    changes="",
    row="f",
    parameter="",
    tau=0.3,
    gamma=0.8,
    alpha=0.4,
    final=2.0,
    seed=0,
    steps=100,
    ramp_steps=30,
    pretrain_steps=0,
    threshold=0.75,
    dice_half=(0.2, 0.4),
    dice_best=(0.5, 0.7),
    raw_dice_half=(0.1, 0.3),
    raw_dice_best=(0.4, 0.6),
    assd_half_mm=(float("nan"), 8.0),
    assd_best_mm=(2.0, 4.0),
    marked_half=0.02,
    marked_best=0.01,
    train_minutes=7.0,
    score_minutes=0.5,
    machine="a CPU, 2 threads",
    commit="0123456789abcdef",
    date="2026-01-02",
)


@pytest.fixture
def make_row() -> Callable[..., CellRow]:
    """A function that gives a finished cell's row with other entries."""
    return lambda **entries: dataclasses.replace(ROW, **entries)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, make_prepared: Callable[..., Path]) -> Callable[[Path], Bench]:
    """A function (folder of runs) that gives a bench of two partial cases to train on, one to tune and one to test."""
    data = tmp_path_factory.mktemp("ablation")
    prepared = AblationData(
        make_prepared(data / "train", partial=2, full=0),
        make_prepared(data / "tune", partial=0, full=1),
        make_prepared(data / "test", partial=0, full=2),
    )
    tiny = SIZES["tiny"]
    config = dataclasses.replace(
        tiny.config,
        finetune=Stage(epochs=3, iterations=2, ema=0.9),
        pretrain=Stage(epochs=1, iterations=2),
        precision="32-true",
        threads=1,
    )
    return lambda folder: Bench("tiny", dataclasses.replace(tiny, config=config), prepared, folder)
