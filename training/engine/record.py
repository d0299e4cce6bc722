"""What a run shows people: a progress bar or log lines, metrics, TensorBoard, a picture and config.json."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lnq.files import replace_atomically, write_text
from training.command import plain_console
from training.engine.checkpoint import cannot_write
from training.engine.picture import Panel, draw_progress

_REFRESH_SECONDS = 2.0  # between readings of the loss, which wait for the device


class Display:
    """Show progress: on a terminal a bar with the loss and the time left, otherwise one line per epoch.

    Nothing is shown unless `shown`. `total` and `done` count optimiser steps.
    """

    def __init__(self, name: str, total: int, done: int, shown: bool = True) -> None:
        self.console = plain_console(quiet=not shown)
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
        self._read = 0.0  # when the loss was last read

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, epoch: int, epochs: int, loss: Callable[[], float]) -> None:
        """Show that one optimiser step is done. `loss` reads the epoch's mean so far."""
        if self.progress.disable:
            return
        if time.monotonic() > self._read + _REFRESH_SECONDS:
            self.progress.update(self.task, loss=f"{loss():.4f}")
            self._read = time.monotonic()
        self.progress.update(self.task, advance=1, description=f"{self.name} {epoch + 1}/{epochs}")

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        """Print a line for a finished epoch. `row` is its record."""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
        self.console.print(f"{self.name} {int(row['epoch']) + 1}/{epochs}  {numbers}")

    def say(self, sentence: str) -> None:
        """Print a sentence on a line of its own."""
        self.console.print(sentence)


class Record:
    """Record epochs in metrics.csv, progress.png, and TensorBoard's events under tensorboard/.

    `done` is the number of epochs that a resumed run starts from. Events of later epochs, written before it was killed,
    are dropped.
    """

    def __init__(self, output: Path, name: str, done: int = 0) -> None:
        self.output, self.name, self.done = output, name, done
        self._events: Any = None

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            with suppress(OSError):  # `epoch` has flushed all that counts as written
                self._events.close()

    def epoch(self, history: list[dict[str, float]], panels: Sequence[Panel] | None = None) -> None:
        """Add the last epoch of `history`. Draw the picture unless `panels` is None; without any it has curves alone.

        Raises OSError with a sentence where something cannot be written.
        """
        try:
            write_metrics(self.output, history)
            if panels is not None:
                draw_progress(self.output / "progress.png", self.name, history, panels)
            self._add_events(history[-1])
        except OSError as error:
            raise cannot_write(self.output, error) from error

    def _add_events(self, row: dict[str, float]) -> None:
        if self._events is None:  # opened late, so that starting a complete run again writes no empty file
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.output / "tensorboard" / self.name), purge_step=self.done)
        for name, value in row.items():
            if name != "epoch":
                self._events.add_scalar(name, value, int(row["epoch"]))
        self._events.flush()


def write_metrics(output: Path, history: list[dict[str, float]]) -> None:
    """Write all finished epochs to metrics.csv, atomically."""
    names = list(dict.fromkeys(name for row in history for name in row))
    with replace_atomically(output / "metrics.csv") as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows([row | {"epoch": int(row["epoch"])} for row in history])


def write_config(
    output: Path, name: str, config: dict[str, Any], facts: dict[str, Any], environment: dict[str, str]
) -> None:
    """Write config.json: the resolved configuration, what the run was given, and its environment."""
    content = {"stage": name, "config": config, "given": facts, "environment": environment}
    write_text(output / "config.json", json.dumps(content, indent=1) + "\n")
