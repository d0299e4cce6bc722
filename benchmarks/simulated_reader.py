"""What a reader's clicks are worth: training goes on with judged candidates, random ones, none, or complete labels.

    python -m benchmarks.simulated_reader -o OUT --results docs/results

For each seed a network is trained on phantoms that are annotated in part. It proposes candidates in them. A simulated
reader judges at most 15 a case in some of the cases, the most worthwhile or random ones. Where nobody judges, nodes
that the network is sure of may count too. Training then goes on from there, for as long with each kind of labels. The
same command, run again, goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from benchmarks.commands import Row, run, write_table
from benchmarks.machine import caption
from benchmarks.output import markdown_table, write_csv
from benchmarks.reader import judge
from lnq.files import write_text
from lnq.image.itk import read_volume
from lnq.image.names import CT, LABEL, NODES
from lnq.plain import to_plain
from training.ablation.cell import score_cell
from training.ablation.data import AblationData, make_data, prepared_folders
from training.ablation.rows import ROWS
from training.ablation.score import best_threshold, predict_folder
from training.ablation.sizes import SIZES, AblationSize
from training.bundle.write import export
from training.command import plain_console, run_command
from training.config import Losses, Trust
from training.data.preparation import Preparation, prepare_cases
from training.engine.finetuning import finetune
from training.review.decisions import ENDING
from training.review.mining import MINED
from training.review.write import read_found

ARMS = ("none", "random", "proposed", "mined", "random+mined", "proposed+mined", "complete")
"""Kinds of labels: the clicks, and whether nodes that the network is sure of count in cases that nobody reviewed."""
_COLUMNS = ("seed", "labels", "judged", "nodes", "Dice %", "at threshold", "ASSD mm")


@dataclass(frozen=True)
class SimulatedReader:
    """Compare what training makes of clicks."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets phantoms, runs and labels
    results: Path | None = None  # gets simulated-reader.md and .csv; the output where none is given
    size: Literal["small", "full", "tiny"] = "small"  # of the ablation: its phantoms and configuration
    cases: int = 40  # phantoms to train on
    reviewed: int = 20  # of these
    clicks: int = 15  # at most, per reviewed case
    row: Literal["b", "c", "d", "e", "f"] = "d"  # of the ablation: the losses
    trust: Trust = "none"  # what these take for background
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 60  # before the review: as long as the ablation trains
    epochs_after: int = 20  # with each kind of labels
    threads: int = 0


class Trial:
    """One seed's networks and labels, below the output folder."""

    def __init__(self, command: SimulatedReader, size: AblationSize, data: AblationData, seed: int) -> None:
        self.command, self.size, self.data, self.seed = command, size, data, seed
        self.raw = command.output / "data" / command.size / "raw" / "train"
        self.folder = command.output / f"seed{seed}"

    @property
    def cases(self) -> list[str]:
        return sorted(path.name.removesuffix(f"{CT}.nrrd") for path in self.raw.glob(f"*{CT}.nrrd"))

    def train(self, data: Path, output: Path, epochs: int, init: Path | None = None) -> None:
        """Fine-tune. Raises RuntimeError where a signal stopped it."""
        base, losses = self.size.config, Losses(trust=self.command.trust)
        config = dataclasses.replace(
            base, seed=self.seed, threads=self.command.threads, losses=losses, picture_every=epochs,
            finetune=dataclasses.replace(base.finetune, epochs=epochs),
        )  # fmt: skip
        if not finetune(data, output, config, init, ROWS[self.command.row].objective):
            raise RuntimeError("Stopped; the same command goes on from there")

    def base(self) -> Path:
        """The bundle of the network before any review."""
        bundle = self.folder / "model"
        if not (bundle / "spec.json").is_file():
            self.train(self.data.train, self.folder / "base", self.command.epochs)
            tune, rules = predict_folder(self.folder / "base" / "finetune.pt", self.data.tune)
            export([self.folder / "base" / "finetune.pt"], bundle, best_threshold(tune, rules))
        return bundle

    def candidates(self) -> Path:
        """Candidates in all cases, and decisions that take the surest for nodes."""
        found, table = self.folder / "found", self.folder / "partial.csv"
        write_table(table, _rows(self.raw, self.cases, LABEL, "partial"))
        run("training.propose", table, "--models", self.base(), "-o", found, "--limits.count", 200,
            "--limits.least-mm", 3, "--device", "cpu", "--mined")  # fmt: skip
        return found

    def prepared(self, arm: str) -> tuple[Path, dict[str, int]]:
        """Prepared cases with an arm's labels, and how many candidates were judged and are nodes."""
        if arm == "none":
            return self.data.train, {"judged": 0, "nodes": 0}
        table, counts = self.labels(arm)
        prepared, config = self.folder / f"prepared-{arm}", self.size.config
        prepare_cases(Preparation((table,), prepared, config.spacing_mm, config.crop), plain_console())
        return prepared, counts

    def labels(self, arm: str) -> tuple[Path, dict[str, int]]:
        """The table of the cases with an arm's labels, and how many candidates were judged and are nodes."""
        if arm == "complete":
            table = self.folder / f"{arm}.csv"
            write_table(table, _rows(self.raw, self.cases, NODES, "full"))
            return table, {"judged": 0, "nodes": 0}
        found, output = self.candidates(), self.folder / f"labels-{arm}"
        clicks, decisions = arm.removesuffix("+mined"), list[Path]()
        judged = nodes = 0
        if clicks != "mined":
            decisions.append(self._said(clicks, found))
            for path in decisions[0].iterdir():
                verdicts = [one["verdict"] for one in json.loads(path.read_text())["judged"]]
                judged, nodes = judged + len(verdicts), nodes + verdicts.count("node")
        if arm.endswith("mined"):
            decisions.append(found / MINED)  # a reader's decisions on a case go before these
        run("training.apply_review", self.raw, "--candidates", found, "--decisions", *decisions, "-o", output)
        return output / "cases.csv", {"judged": judged, "nodes": nodes}

    def _said(self, clicks: str, found: Path) -> Path:
        """The folder of the simulated reader's decisions."""
        said = self.folder / f"said-{clicks}"
        said.mkdir(exist_ok=True)
        for case in self.cases[: self.command.reviewed]:
            path = said / f"{case}{ENDING}"
            if not path.is_file():
                decisions = judge(found / case, self._truth(case), self._chosen(found / case, clicks))
                write_text(path, json.dumps(to_plain(decisions), indent=1) + "\n")
        return said

    def _truth(self, case: str) -> np.ndarray:
        return read_volume(self.raw / f"{case}{NODES}.nrrd").array

    def _chosen(self, folder: Path, clicks: str) -> list[int]:
        """Numbers of the candidates that are judged: the first ones, or random ones."""
        numbers = [int(row["number"]) for row in read_found(folder)["candidates"]]
        if clicks == "random":
            numbers = [int(n) for n in np.random.default_rng(self.seed).permutation(numbers)]
        return numbers[: self.command.clicks]

    def score(self, arm: str) -> dict[str, float]:
        """Train on with an arm's labels, and score that on the test phantoms."""
        path = self.folder / f"{arm}.json"
        if path.is_file():
            return dict(json.loads(path.read_text()))
        prepared, counts = self.prepared(arm)
        run = self.folder / f"run-{arm}"
        self.train(prepared, run, self.command.epochs_after, self.base())
        _, best = score_cell(run / "finetune.pt", self.data)
        scored = counts | {
            "dice": float(np.mean(best.dice)), "threshold": best.threshold, "assd_mm": float(np.nanmean(best.assd_mm)),
        }  # fmt: skip
        write_text(path, json.dumps(scored) + "\n")
        return scored


def _rows(raw: Path, cases: Sequence[str], label: str, annotation: str) -> list[Row]:
    folder = raw.resolve()
    return [(case, folder / f"{case}{CT}.nrrd", folder / f"{case}{label}.nrrd", annotation) for case in cases]


def gap_closed(dice: dict[str, float], arm: str) -> float:
    """How much of the way from partial to complete labels an arm goes, 0 to 1. NaN without a gap."""
    gap = dice["complete"] - dice["none"]
    return (dice[arm] - dice["none"]) / gap if gap else float("nan")


def write_results(command: SimulatedReader, scored: dict[tuple[int, str], dict[str, float]]) -> None:
    """Write what is scored so far as CSV and Markdown."""
    rows = [
        (seed, arm, int(one["judged"]), int(one["nodes"]), f"{100 * one['dice']:.1f}", f"{one['threshold']:.3g}",
         f"{one['assd_mm']:.1f}")
        for (seed, arm), one in sorted(scored.items(), key=lambda item: (item[0][0], ARMS.index(item[0][1])))
    ]  # fmt: skip
    folder = command.results or command.output
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "simulated-reader.csv", _COLUMNS, rows)
    lines = ["# What a reader's clicks are worth", "", *_about(command), ""]
    lines += markdown_table(_COLUMNS, [tuple(map(str, row)) for row in rows], left=2)
    seeds = [seed for seed in command.seeds if all((seed, arm) in scored for arm in ARMS)]
    if seeds:
        means = {arm: float(np.mean([scored[seed, arm]["dice"] for seed in seeds])) for arm in ARMS}
        said = ", ".join(f"{arm} {100 * dice:.1f}" for arm, dice in means.items())
        lines += [f"Mean Dice in % over {len(seeds)} seeds: {said}.", ""]
        closed = ", ".join(f"{arm} {100 * gap_closed(means, arm):.0f}" for arm in ARMS[1:-1])
        lines += [f"Of the gap from none to complete they close, in %: {closed}.", ""]
    lines += caption("benchmarks.simulated_reader", _options(command), {"torch": torch.__version__})
    write_text(folder / "simulated-reader.md", "\n".join(lines))


def _about(command: SimulatedReader) -> list[str]:
    trust = " with certain background" if command.trust == "certain" else ""
    return [
        f"{command.cases} phantoms that are annotated in part, {command.reviewed} of them reviewed with at most "
        f"{command.clicks} judgements each by a reader who knows the truth, of the first candidates or of random ones. "
        "Mined: nodes that the network is sure of count in all cases that nobody reviewed. Row "
        f"{command.row} of the ablation{trust}, size {command.size}: {command.epochs} epochs on the partial labels, "
        f"then {command.epochs_after} with each kind of labels. Scored at the threshold that is best on other "
        "phantoms. Synthetic data: this says nothing about patients.",
    ]


def _options(command: SimulatedReader) -> list[str]:
    """The command's options but for its folders."""
    usual = SimulatedReader(Path("OUT"))
    words = ["-o", "OUT"]
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if field.name not in ("output", "results") and value != getattr(usual, field.name):
            words += [f"--{field.name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(SimulatedReader, args=arguments, prog="python -m benchmarks.simulated_reader")

    def work() -> bool:
        size = dataclasses.replace(SIZES[command.size], train=command.cases)
        data = command.output / "data"
        make_data(command.size, size, data, 1, plain_console())
        scored: dict[tuple[int, str], dict[str, float]] = {}
        for seed in command.seeds:
            trial = Trial(command, size, prepared_folders(command.size, size, data), seed)
            for arm in ARMS:
                scored[seed, arm] = trial.score(arm)
                write_results(command, scored)
        return True

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
