"""Run one cell of the table: train a row with a seed, choose its threshold, score it. A stopped cell resumes."""

from __future__ import annotations

import dataclasses
import datetime
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.ablation.data import AblationData
from training.ablation.rows import ALL_ROWS, SWEEPS, SWEPT_ROW, parameter_of, with_parameter
from training.ablation.score import HALF, Scores, best_threshold, predict_folder, score_at
from training.ablation.sizes import SIZES, AblationSize, changes, settings_digest
from training.ablation.table import CellRow, read_table, write_table
from training.commit import git_commit
from training.config import Augmentation, Config, Losses, Stage
from training.engine.checkpoint import Checkpoint, load_checkpoint
from training.engine.finetuning import Wanted, finetune, finetune_together
from training.engine.pretraining import pretrain
from training.engine.run import read_facts


@dataclass(frozen=True)
class AblationCell:
    """A row of Table 1 with a seed. In a sweep of Fig. 3, also the parameter that is changed and its value."""

    row: str
    seed: int
    parameter: str = ""
    value: float = 0.0

    @property
    def name(self) -> str:
        """Name of its run's folder."""
        return f"{self.row}-seed{self.seed}" + (f"-{self.parameter}{self.value:g}" if self.parameter else "")

    @property
    def title(self) -> str:
        """The cell in words, for messages."""
        changed = f" with {self.parameter} {self.value:g}" if self.parameter else ""
        return f"row {self.row}{changed}, seed {self.seed}"

    def config(self, base: Config) -> Config:
        """The cell's configuration: `base` with its own seed and parameter."""
        losses = with_parameter(base.losses, self.parameter, self.value) if self.parameter else base.losses
        if ALL_ROWS[self.row].trust != "none":
            losses = dataclasses.replace(losses, trust=ALL_ROWS[self.row].trust)
        return dataclasses.replace(base, seed=self.seed, losses=losses)


@dataclass(frozen=True)
class Bench:
    """What all cells of a command share."""

    size_name: str
    size: AblationSize  # with the options that were overridden
    data: AblationData
    folder: Path  # gets a folder per run

    def output(self, cell: AblationCell) -> Path:
        """The cell's own folder."""
        return self.folder / f"{self.size_name}-{settings_digest(self.size)}" / cell.name

    def key(self, cell: AblationCell) -> tuple[str, str, str, str, float, int]:
        """The cell's `CellRow.key`."""
        return self.size_name, settings_digest(self.size), cell.row, cell.parameter, cell.value, cell.seed


def table_cells(rows: Sequence[str], seeds: Sequence[int]) -> list[AblationCell]:
    """Cells of Table 1: all rows with the first seed, then all rows with the second, and so on."""
    return [AblationCell(row, seed) for seed in seeds for row in rows]


def sweep_cells(parameter: str, seeds: Sequence[int], losses: Losses) -> list[AblationCell]:
    """Cells of one sweep. For the value that `losses` already has, this is the plain row's cell."""
    usual = parameter_of(losses, parameter)
    return [
        AblationCell(SWEPT_ROW, seed) if value == usual else AblationCell(SWEPT_ROW, seed, parameter, value)
        for seed in seeds
        for value in SWEEPS[parameter]
    ]


def run_cell(cell: AblationCell, bench: Bench) -> bool:
    """Train and score a cell, and write its row as a table in its folder; returns False where a signal stopped it.

    Raises RuntimeError where the loss is not finite.
    """
    output = bench.output(cell)
    if any(row.key == bench.key(cell) for row in read_table(output)):
        return True
    if not train_cell(cell, bench):
        return False
    begun = time.perf_counter()
    half, best = score_cell(output / "finetune.pt", bench.data)
    minutes = (time.perf_counter() - begun) / 60
    write_table(output, [cell_row(cell, bench, load_checkpoint(output / "finetune.pt"), half, best, minutes)])
    return True


def pretraining(bench: Bench) -> Path:
    """Path of the pre-training's checkpoint, shared by all seeds as in the paper. It may not exist yet."""
    return bench.folder / f"{bench.size_name}-pretrain-{settings_digest(_pretrain_size(bench.size))}" / "pretrain.pt"


def _pretrain_size(size: AblationSize) -> AblationSize:
    """The size without what only fine-tuning reads, so that cells that differ in that share the pre-training."""
    config = dataclasses.replace(
        size.config, seed=0, losses=Losses(), augmentation=Augmentation(), finetune=Stage(epochs=1)
    )
    return dataclasses.replace(size, config=config)


def run_pretraining(bench: Bench) -> bool:
    """Pre-train unless that is done; a stopped run resumes. Returns False where a signal stopped it."""
    return pretrain(bench.data.train, pretraining(bench).parent, _pretrain_size(bench.size).config)


def train_cell(cell: AblationCell, bench: Bench) -> bool:
    """Fine-tune as `training.finetune` does, but with the row's objective; returns False where a signal stopped it."""
    one = _wanted(cell, bench)
    return finetune(bench.data.train, one.output, one.config, one.init, one.objective)


def train_cells_together(cells: Sequence[AblationCell], bench: Bench) -> bool:
    """Fine-tune cells that share a seed in this process; returns False where a signal stopped it.

    `run_cell` then finds them trained. One that fails stays as it is, and fails there again with its reason.
    """
    outcomes = finetune_together(bench.data.train, [_wanted(cell, bench) for cell in cells])
    return False not in outcomes


def _wanted(cell: AblationCell, bench: Bench) -> Wanted:
    row = ALL_ROWS[cell.row]
    init = pretraining(bench) if row.pretrained else None
    return Wanted(bench.output(cell), cell.config(bench.size.config), init, row.objective)


def score_cell(checkpoint: Path, data: AblationData) -> tuple[Scores, Scores]:
    """Scores on the test phantoms at threshold 0.5, and at the threshold that is best on the `tune` phantoms."""
    tune, rules = predict_folder(checkpoint, data.tune)
    threshold = best_threshold(tune, rules)
    del tune
    test, rules = predict_folder(checkpoint, data.test)
    return score_at(test, HALF, rules), score_at(test, threshold, rules)


def cell_row(
    cell: AblationCell, bench: Bench, checkpoint: Checkpoint, half: Scores, best: Scores, score_minutes: float
) -> CellRow:
    """The table's row for a cell that is trained and scored. `score_minutes` is how long scoring took."""
    config = cell.config(bench.size.config)
    losses, stage = config.losses, config.finetune
    return CellRow(
        size=bench.size_name,
        settings=settings_digest(bench.size),
        changes=changes(bench.size.config, SIZES[bench.size_name].config),
        row=cell.row,
        parameter=cell.parameter,
        tau=losses.tau,
        gamma=losses.gamma,
        alpha=losses.alpha,
        final=losses.final,
        seed=cell.seed,
        steps=checkpoint["step"],
        ramp_steps=round(losses.ramp * stage.epochs) * stage.iterations,
        pretrain_steps=(read_facts(checkpoint).pretraining or {}).get("steps", 0),
        threshold=best.threshold,
        dice_half=half.dice,
        dice_best=best.dice,
        raw_dice_half=half.raw_dice,
        raw_dice_best=best.raw_dice,
        assd_half_mm=half.assd_mm,
        assd_best_mm=best.assd_mm,
        marked_half=float(np.mean(half.marked)),
        marked_best=float(np.mean(best.marked)),
        train_minutes=math.fsum(epoch["seconds"] for epoch in checkpoint["history"]) / 60,
        score_minutes=score_minutes,
        machine=machine(),
        commit=git_commit(),
        date=datetime.date.today().isoformat(),
    )


def machine() -> str:
    """Name of the GPU, or of the CPU with its number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
