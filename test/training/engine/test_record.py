from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib.image
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.config import TINY, Stage
from training.engine import record as module
from training.engine.finetuning import finetune
from training.engine.pretraining import pretrain
from training.engine.record import Record

CONFIG = dataclasses.replace(TINY, precision="32-true", threads=1)


def rows(*losses: float) -> list[dict[str, float]]:
    return [{"epoch": float(i), "lr": 0.1, "loss": loss} for i, loss in enumerate(losses)]


def events(output: Path, tag: str) -> list[tuple[int, float]]:
    reader = EventAccumulator(str(output / "tensorboard" / "finetune"))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def test_epochs_that_a_killed_run_repeats_are_recorded_once(tmp_path: Path) -> None:
    with Record(tmp_path, "finetune") as record:
        for done in (1, 2, 3):
            record.epoch(rows(4.0, 3.0, 9.0)[:done])
    assert events(tmp_path, "loss") == [(0, 4.0), (1, 3.0), (2, 9.0)]
    with Record(tmp_path, "finetune", done=2) as record:  # the checkpoint of the third epoch was never written
        record.epoch(rows(4.0, 3.0, 2.0))
        record.epoch(rows(4.0, 3.0, 2.0, 1.0))
    assert events(tmp_path, "loss") == [(0, 4.0), (1, 3.0), (2, 2.0), (3, 1.0)]
    assert [line.split(",")[2] for line in (tmp_path / "metrics.csv").read_text().splitlines()] == [
        *("loss", "4.0", "3.0", "2.0", "1.0")
    ]


def test_record_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    with Record(tmp_path, "finetune", done=3):
        pass
    assert not list(tmp_path.iterdir())


def test_picture_is_drawn_after_the_first_every_nth_and_the_last_epoch(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(module, "draw_progress", lambda path, name, history, panels: drawn.append(len(history)))
    config = dataclasses.replace(CONFIG, finetune=Stage(epochs=5, iterations=1), picture_every=2)
    assert finetune(prepared, tmp_path / "two", config)
    assert drawn == [1, 2, 4, 5]
    drawn.clear()
    assert finetune(prepared, tmp_path / "none", dataclasses.replace(config, picture_every=0))
    assert drawn == []


def test_both_stages_leave_picture_and_events(prepared: Path, tmp_path: Path) -> None:
    assert pretrain(prepared, tmp_path / "pretrain", CONFIG)
    assert finetune(prepared, tmp_path / "finetune", CONFIG)
    for stage in ("pretrain", "finetune"):
        assert matplotlib.image.imread(tmp_path / stage / "progress.png").shape[-1] == 4
    assert [step for step, _ in events(tmp_path / "finetune", "consensus_main")] == [0, 1]
