"""Run cells one after the other, or several at a time, each in its own process."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from rich.console import Console

from training.ablation.cell import AblationCell, Bench, run_cell, train_cells_together
from training.ablation.report import percent
from training.ablation.table import add_row, read_table
from training.command import STOPPED, run_command
from training.engine.machine import StopSignal

LOG_NAME = "log.txt"  # output of a cell that runs beside others


@dataclass
class CellsDone:
    """The outcome of a command's cells."""

    stopped: bool = False
    failed: list[str] = field(default_factory=list)  # titles


def missing_cells(cells: Sequence[AblationCell], bench: Bench, results: Path) -> list[AblationCell]:
    """The cells that are not yet in the table of `results`, without duplicates."""
    done = {row.key for row in read_table(results)}
    return [cell for cell in dict.fromkeys(cells) if bench.key(cell) not in done]


def run_cells(
    cells: Sequence[AblationCell], bench: Bench, results: Path, parallel: int, console: Console, together: int = 1
) -> CellsDone:
    """Run cells and add each to the table of `results` when it is done. A failed cell does not stop the others.

    `parallel` cells have a process each. Or this process trains up to `together` cells of one seed on shared samples.
    """
    if parallel > 1:
        return _side_by_side(cells, bench, results, parallel, console)
    outcome = CellsDone()
    for group in _groups(cells, together):
        if len(group) > 1:
            titles = "; ".join(cell.title for cell in group)
            console.print(f"Training together: {titles}")
            if run_command(partial(train_cells_together, group, bench)) == STOPPED:
                outcome.stopped = True
                break
        _one_by_one(group, bench, results, outcome, console)
        if outcome.stopped:
            break
    return outcome


def _groups(cells: Sequence[AblationCell], together: int) -> list[list[AblationCell]]:
    """Groups of at most so many cells that share a seed, in the order of the cells."""
    by_seed: dict[int, list[AblationCell]] = {}
    for cell in cells:
        by_seed.setdefault(cell.seed, []).append(cell)
    return [own[first : first + together] for own in by_seed.values() for first in range(0, len(own), together)]


def _one_by_one(
    cells: Sequence[AblationCell], bench: Bench, results: Path, outcome: CellsDone, console: Console
) -> None:
    """Run cells in this process, until a signal stops one."""
    for number, cell in enumerate(cells, start=1):
        console.print(f"AblationCell {number} of {len(cells)}: {cell.title}")
        status = _finish(cell, bench, results, run_command(partial(run_cell, cell, bench)), outcome, console)
        if status == STOPPED:
            break


def _finish(cell: AblationCell, bench: Bench, results: Path, status: int, outcome: CellsDone, console: Console) -> int:
    """Add a cell's row to the table, or note why there is none; returns the status."""
    if status == 0:
        row = read_table(bench.output(cell))[0]
        add_row(results, row)
        half, best = percent(row.dice_half), percent(row.dice_best)
        console.print(
            f"{cell.title}: Dice {half} % at 0.5, {best} % at {row.threshold:.4g}; {row.train_minutes:.1f} minutes",
        )
    elif status == STOPPED:
        outcome.stopped = True
    else:
        outcome.failed.append(cell.title)
    return status


def _side_by_side(
    cells: Sequence[AblationCell], bench: Bench, results: Path, parallel: int, console: Console
) -> CellsDone:
    """Run each cell in a fresh process, `parallel` at a time. A signal is passed on, and the cells' ends awaited."""
    context = multiprocessing.get_context("spawn")
    waiting, running = list(cells), dict[int, tuple[AblationCell, SpawnProcess]]()
    outcome, told = CellsDone(), False
    with StopSignal() as stop:
        while running or (waiting and not stop.received):
            while waiting and len(running) < parallel and not stop.received:
                cell = waiting.pop(0)
                process = context.Process(target=_run_logged, args=(cell, bench))
                process.start()
                running[process.sentinel] = (cell, process)
                console.print(f"Started {cell.title}; it writes to {bench.output(cell) / LOG_NAME}")
            ended = connection.wait(list(running), timeout=1.0)
            for sentinel in [s for s in running if s in ended]:
                cell, process = running.pop(sentinel)
                process.join()
                status = process.exitcode or 0
                if status and stop.received:  # a process that was not training has no checkpoint to write
                    status = STOPPED
                if _finish(cell, bench, results, status, outcome, console) not in (0, STOPPED):
                    console.print(f"{cell.title} failed: see {bench.output(cell) / LOG_NAME}")
            if stop.received and not told:
                told = True
                for _, process in running.values():
                    process.terminate()
        outcome.stopped |= stop.received
    return outcome


def _run_logged(cell: AblationCell, bench: Bench) -> None:
    """Run a cell in this process with its output in a file, and exit with its status."""
    os.setsid()  # Ctrl-C then reaches only the parent, which passes it on: a second signal would kill this process
    output = bench.output(cell)
    output.mkdir(parents=True, exist_ok=True)
    with open(output / LOG_NAME, "a") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        sys.exit(run_command(partial(run_cell, cell, bench)))
