"""Train and score rows of the paper's Table 1 or a sweep of its Fig. 3 on phantoms, or write the report.

    python -m training.ablation --size small --output OUT
    python -m training.ablation --size small --output OUT --rows baseline a f --seeds 0
    python -m training.ablation --size small --output OUT --sweep tau
    python -m training.ablation report

The same command, run again, goes on where it was stopped. Cells that are in the table are not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from lnq.inference.backends import available_cpus
from training.ablation.cell import AblationCell, Bench, run_pretraining, sweep_cells, table_cells
from training.ablation.data import make_data, prepared_folders
from training.ablation.report import write_report
from training.ablation.rows import ALL_ROWS, ROWS
from training.ablation.run import missing_cells, run_cells
from training.ablation.sizes import SIZES
from training.ablation.summary import SEEDS, SWEEP_SEEDS
from training.command import plain_console, run_command
from training.config import ConfigArguments

PROGRAM = "python -m training.ablation"
RESULTS = Path("docs/results")
RowName = Literal["baseline", "a", "b", "c", "d", "e", "f", "g", "e-integer", "c-certain", "d-certain", "f-certain"]


@dataclass(frozen=True)
class Ablation:
    """Train and score cells of the ablation; the table in `results` grows by a row per cell."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets phantoms and a folder per run
    size: Literal["small", "full", "tiny"] = "small"  # small for two CPU cores, full for a GPU, tiny for tests
    rows: tuple[RowName, ...] = ()  # of Table 1; all where neither these nor a sweep are given
    seeds: tuple[int, ...] = ()  # 0 1 2 of the rows, 0 of a sweep
    sweep: Literal["tau", "gamma", "alpha", "lambda"] | None = None  # of Fig. 3
    parallel: int = 1  # cells side by side, each in a process
    together: int = 1  # cells of one seed trained by one process on the same samples, which suits a GPU
    results: Path = RESULTS  # gets ablation.csv, ablation.md and its pictures
    config: ConfigArguments = SIZES["small"].config


@dataclass(frozen=True)
class Report:
    """Write the report from the table that is there."""

    results: Path = RESULTS


def parse_run(arguments: list[str]) -> Ablation:
    """Parse the command's options. The defaults of its configuration are those of `--size`."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--size", choices=list(SIZES), default="small")
    size = early.parse_known_args(arguments)[0].size
    default = Ablation(output=tyro.MISSING, size=size, config=SIZES[size].config)
    return tyro.cli(Ablation, args=arguments, default=default, prog=PROGRAM)


def wanted_cells(command: Ablation) -> list[AblationCell]:
    """The cells that a command asks for. Raises ValueError for options that exclude each other."""
    if command.config.seed != 0 or command.config.devices != 1:
        raise ValueError("A cell has its own seed and one device: give --seeds and --parallel, not --seed or --devices")
    for name, number in (("parallel", command.parallel), ("together", command.together)):
        if number < 1:
            raise ValueError(f"--{name} must be at least 1, not {number}")
    if command.parallel > 1 and command.together > 1:
        raise ValueError("Give --parallel or --together, not both")
    cells = sweep_cells(command.sweep, command.seeds or SWEEP_SEEDS, command.config.losses) if command.sweep else []
    rows: tuple[str, ...] = command.rows or (() if command.sweep else tuple(ROWS))
    return table_cells(rows, command.seeds or SEEDS) + cells


def run(command: Ablation, console: Console) -> int:
    """Run the whole command; returns the number of failed cells, or -1 where a signal stopped it."""
    wanted, config, data = wanted_cells(command), command.config, command.output / "data"
    if command.parallel > 1 and not config.threads:
        config = dataclasses.replace(config, threads=max(1, available_cpus() // command.parallel))
    size = dataclasses.replace(SIZES[command.size], config=config)
    bench = Bench(command.size, size, prepared_folders(command.size, size, data), command.output / "runs")
    cells = missing_cells(wanted, bench, command.results)
    console.print(f"{len(cells)} cells are to be run, {len(set(wanted)) - len(cells)} are there")
    if cells:
        make_data(command.size, size, data, available_cpus(), console)
    if any(ALL_ROWS[cell.row].pretrained for cell in cells) and not run_pretraining(bench):
        return -1
    outcome = run_cells(cells, bench, command.results, command.parallel, console, command.together)
    console.print(f"The report is {write_report(command.results)}")
    if outcome.stopped:
        console.print("Stopped; the same command goes on from there.")
    for title in outcome.failed:
        console.print(f"{title} failed")
    return -1 if outcome.stopped else len(outcome.failed)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status, which is 1 where cells failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console = plain_console()
    if arguments[:1] == ["report"]:
        report = tyro.cli(Report, args=arguments[1:], prog=f"{PROGRAM} report")
        return run_command(lambda: bool(write_report(report.results)))
    command = parse_run(arguments)
    failed = 0

    def work() -> bool:
        nonlocal failed
        failed = run(command, console)
        return failed >= 0

    return run_command(work) or int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
