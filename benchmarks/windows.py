"""Dice and time for several window steps and mirrorings, by which the bundle's own are chosen.

    python -m benchmarks.windows data/tune -o docs/results

Every step is tried with the bundle's mirroring, and every mirroring with the bundle's step. The settings take turns on
each CT. Writes windows.csv with a row per CT and setting, writes windows.png, and prints means.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from rich.table import Table

from benchmarks.output import save_figure, write_csv
from benchmarks.visits import counted
from lnq.errors import BundleError
from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from lnq.inference.backends import Model, load_model
from lnq.inference.spec import MIRRORINGS, ModelSpec
from lnq.pipeline import infer, mask_of
from training.command import plain_console
from training.scoring.scores import CaseResult, replace_missing_assd, score, summary
from training.scoring.truths import find_truths, read_instances

STEPS = (0.5, 0.625, 0.75, 0.875, 1.0)  # in patches
Setting = tuple[float, int]  # step and mirroring


@dataclasses.dataclass(frozen=True)
class SettingRun:
    """One CT segmented with one setting."""

    case: str
    setting: Setting
    passes: int  # windows that the network ran; a mirrored one counts each time
    network_s: float
    result: CaseResult


def settings_of(spec: ModelSpec, steps: Sequence[float], mirrorings: Sequence[int]) -> list[Setting]:
    """The settings that are tried, each once."""
    own = [(step, spec.mirror) for step in steps]
    return list(dict.fromkeys([*own, *((spec.window_step, mirror) for mirror in mirrorings)]))


def run_settings(
    case: str, volume: Volume, instances: Volume, model: Model, settings: Sequence[Setting]
) -> list[SettingRun]:
    """Segment and score a CT with every setting."""
    runs = []
    for step, mirror in settings:
        spec = dataclasses.replace(model.spec, window_step=step, mirror=mirror)
        counting, visited = counted(dataclasses.replace(model, spec=spec))
        inferred = infer(volume, counting)
        seconds = inferred.seconds["network"]
        result = score(case, mask_of(inferred, spec), instances, seconds)
        runs.append(SettingRun(case, (step, mirror), visited(), seconds, result))
    return runs


def means_of(runs: Sequence[SettingRun], setting: Setting) -> dict[str, float]:
    """Means over CTs of the runs with one setting, as `training.evaluate` takes them."""
    own = [run for run in runs if run.setting == setting]
    means: dict[str, Any] = {
        "step": setting[0],
        "mirror": setting[1],
        "passes": np.mean([r.passes for r in own]),
        "network_s": np.mean([r.network_s for r in own]),
    }
    scores = summary(replace_missing_assd([r.result for r in own]))
    wanted = ("mean_dice", "mean_assd_mm", "large_nodes_found", "node_f1", "false_components_per_case")
    return {name: float(value) for name, value in (means | {n: scores[n] for n in wanted}).items()}


def write(folder: Path, runs: Sequence[SettingRun], table: Sequence[dict[str, float]]) -> None:
    """Write the table of runs and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ("case", "step", "mirror", "passes", "network_s", "dice", "assd_mm", "large_nodes", "large_found")
    rows = []
    for run in runs:
        r = run.result
        scores = (f"{run.network_s:.3f}", f"{r.dice:.4f}", f"{r.assd_mm:.3f}", r.large_nodes, r.large_found)
        counts = (r.nodes, sum(node.found for node in r.node_results), r.components, r.false_components)
        rows.append((run.case, *run.setting, run.passes, *scores, *counts))
    write_csv(folder / "windows.csv", (*columns, "nodes", "nodes_found", "components", "false_components"), rows)
    plot(folder / "windows.png", table)


def plot(path: Path, table: Sequence[dict[str, float]]) -> None:
    """Draw Dice over the network's seconds: a line through the steps, and one through the mirrorings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for fixed, other in (("mirror", "step"), ("step", "mirror")):
        for value in dict.fromkeys(row[fixed] for row in table):
            own = sorted((row for row in table if row[fixed] == value), key=lambda row: row[other])
            if len(own) == 1 < len(table):  # a single point belongs to the other line
                continue
            places = [row["network_s"] for row in own], [row["mean_dice"] for row in own]
            (line,) = axes.plot(*places, marker="o", label=f"{fixed} {value:g}, points: {other}")
            side, beside = ("left", (6, -9)) if fixed == "step" else ("right", (-7, -3))
            for row, x, y in zip(own, *places, strict=True):
                axes.annotate(
                    f"{row[other]:g}", (x, y), beside, textcoords="offset points", ha=side, color=line.get_color()
                )
    axes.set(xlabel="seconds in the network, per CT", ylabel="mean Dice")
    axes.set_xlim(0, 1.05 * max(row["network_s"] for row in table))
    if axes.lines:
        axes.legend(frameon=False)
    save_figure(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.windows", description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path, nargs="+", help="folders with <case>-ct and <case>-nodes or -seg")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("model"))
    parser.add_argument("--steps", type=float, nargs="+", default=list(STEPS))
    parser.add_argument("--mirrorings", type=int, nargs="+", choices=MIRRORINGS, default=list(MIRRORINGS))
    options = parser.parse_args(arguments)
    try:
        model, runs = load_model(options.model), list[SettingRun]()
        settings = settings_of(model.spec, options.steps, options.mirrorings)
        for step, mirror in settings:
            dataclasses.replace(model.spec, window_step=step, mirror=mirror)
        truths = find_truths(options.sources)[0]
    except (ValueError, BundleError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    for truth in track(truths, console=plain_console()):
        assert truth.ct is not None  # find_truths asks for one
        runs += run_settings(truth.case, read_volume(truth.ct), read_instances(truth.path), model, settings)
    table = [means_of(runs, setting) for setting in settings]
    write(options.output, runs, table)
    shown = Table(*table[0])
    for row in table:
        shown.add_row(*(f"{value:.4g}" for value in row.values()))
    plain_console(stderr=False).print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
