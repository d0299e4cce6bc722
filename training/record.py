"""What a run tells people while it runs: a progress bar or log lines, metrics.csv and config.json."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from lnq.files import replace_atomically, write_text
from training.machine import environment

_REFRESH_STEPS = 5  # reading the loss waits for the device


class Display:
    """A bar with the loss and the time left on a terminal, one line per epoch otherwise; silent where `shown` is not.

    `total` and `done` count optimiser steps.
    """

    def __init__(self, name: str, total: int, done: int, shown: bool = True) -> None:
        self.console = Console(stderr=True, quiet=not shown, soft_wrap=True)
        self.name = name
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )
        self.task = self.progress.add_task(name, total=total, completed=done, loss="-")
        self._count = 0

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, epoch: int, epochs: int, loss: Tensor) -> None:
        """One optimiser step is done."""
        if self.progress.disable:
            return
        self._count += 1
        if self._count % _REFRESH_STEPS == 1:
            self.progress.update(self.task, loss=f"{float(loss.detach()):.4f}")
        self.progress.update(self.task, advance=1, description=f"{self.name} {epoch + 1}/{epochs}")

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        """An epoch is done; `row` is its record."""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
        self.console.print(f"{self.name} {int(row['epoch']) + 1}/{epochs}  {numbers}", highlight=False)

    def say(self, sentence: str) -> None:
        """One line that is no record of an epoch."""
        self.console.print(sentence, highlight=False)


def write_metrics(output: Path, history: list[dict[str, float]]) -> None:
    """Write all finished epochs to metrics.csv, atomically."""
    names = list(dict.fromkeys(name for row in history for name in row))
    with replace_atomically(output / "metrics.csv") as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows([row | {"epoch": int(row["epoch"])} for row in history])


def write_config(output: Path, name: str, config: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write the resolved configuration, what the run was given, and what it runs on to config.json."""
    content = {"stage": name, "config": config, "given": facts, "environment": environment()}
    write_text(output / "config.json", json.dumps(content, indent=1) + "\n")
