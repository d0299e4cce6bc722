"""Dice over time for several window steps, with the shipped weights: which step the bundle should have.

    python -m benchmarks.window_step data/tune -o docs/results

The steps take turns on each CT. Writes window_step.csv, a row per CT and step, and window_step.png, and prints means.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lnq.backends import Model, load_model
from lnq.files import replace_atomically
from lnq.pipeline import infer, to_mask
from lnq.volume import Volume, read_volume
from training.scores import CaseResult, replace_missing_assd, score, summary
from training.truths import find_truths, read_instances

STEPS = (0.5, 0.625, 0.75, 0.875, 1.0)  # in patches


@dataclasses.dataclass(frozen=True)
class Run:
    """One CT with one step."""

    case: str
    step: float
    windows: int
    network_s: float
    result: CaseResult


def run_case(case: str, volume: Volume, instances: Volume, model: Model, steps: Sequence[float]) -> list[Run]:
    """A CT with every step."""
    runs = []
    for step in steps:
        visited = 0

        def predict(patches: np.ndarray) -> np.ndarray:
            nonlocal visited
            visited += len(patches)
            return model.predict(patches)

        spec = dataclasses.replace(model.spec, window_step=step)
        inferred = infer(volume, dataclasses.replace(model, spec=spec, predict=predict, own_sliding_window=None))
        seconds = inferred.seconds["network"]
        runs.append(Run(case, step, visited, seconds, score(case, to_mask(inferred, volume, spec), instances, seconds)))
    return runs


def of_step(runs: Sequence[Run], step: float) -> dict[str, float]:
    """Means over CTs, as `training.evaluate` counts."""
    own = [run for run in runs if run.step == step]
    means: dict[str, Any] = {
        "step": step,
        "windows": np.mean([r.windows for r in own]),
        "network_s": np.mean([r.network_s for r in own]),
    }
    scores = summary(replace_missing_assd([r.result for r in own]))
    wanted = ("mean_dice", "mean_assd_mm", "large_nodes_found", "node_f1", "false_components_per_case")
    return {name: float(value) for name, value in (means | {n: scores[n] for n in wanted}).items()}


def write(folder: Path, runs: Sequence[Run], table: Sequence[dict[str, float]]) -> None:
    """The table of runs and the picture."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    with replace_atomically(folder / "window_step.csv") as part, open(part, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("case", "step", "windows", "network_s", "dice", "assd_mm", "large_nodes", "large_found"))
        for run in runs:
            r = run.result
            scores = (f"{run.network_s:.3f}", f"{r.dice:.4f}", f"{r.assd_mm:.3f}", r.large_nodes, r.large_found)
            writer.writerow((run.case, run.step, run.windows, *scores))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["network_s"] for row in table], [row["mean_dice"] for row in table], marker="o")
    for number, row in enumerate(table):
        place, up = (row["network_s"], row["mean_dice"]), number % 2  # in turn above and below: they lie close together
        axes.annotate(f"step {row['step']:g}", place, (0, 8 if up else -16), textcoords="offset points", ha="center")
    axes.set(xlabel="seconds in the network, per CT", ylabel="mean Dice", ylim=(0, 1))
    axes.set_xlim(0, 1.15 * max(row["network_s"] for row in table))
    with replace_atomically(folder / "window_step.png") as part:
        figure.savefig(part, dpi=120, format="png")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.window_step", description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path, nargs="+", help="folders with <case>-ct and <case>-nodes or -seg")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("model"))
    parser.add_argument("--steps", type=float, nargs="+", default=list(STEPS))
    options = parser.parse_args(arguments)
    model, runs = load_model(options.model), list[Run]()
    for truth in track(find_truths(options.sources)[0], console=Console(stderr=True)):
        assert truth.ct is not None  # find_truths asks for one
        runs += run_case(truth.case, read_volume(truth.ct), read_instances(truth.path), model, options.steps)
    table = [of_step(runs, step) for step in options.steps]
    write(options.output, runs, table)
    shown = Table(*table[0])
    for row in table:
        shown.add_row(*(f"{value:.4g}" for value in row.values()))
    Console().print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
