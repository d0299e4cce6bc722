"""What recipes make of few and careless annotations: rows of networks on the hard set of phantoms.

    python -m benchmarks.hard -o OUT --results docs/results
    python -m benchmarks.hard -o OUT --arms g recipe --shares 0.05 --seeds 0

Each row is trained on the same CTs, and scored on phantoms of another domain, at the thresholds that are best on usual
phantoms that are annotated wholly. Cells that are done are kept; several commands may share the work.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from benchmarks.commands import run
from benchmarks.hard_arms import ARMS, Arm, ArmName
from benchmarks.hard_data import COMPLETE, HardSet
from benchmarks.hard_table import HardScore, sort_scores, write_results
from lnq.files import write_text
from lnq.inference.backends import load_model
from lnq.nodes.metrics import dice
from lnq.pipeline import infer, mask_of
from lnq.plain import to_plain
from training.ablation.score import THRESHOLDS
from training.ablation.sizes import SIZES, drop_usual
from training.bundle.write import export
from training.command import plain_console, run_command
from training.config import Config
from training.data.augmentation.copy_paste import VERSION as COPIES_VERSION
from training.data.preparation import Preparation, prepare_cases
from training.engine.finetuning import finetune
from training.engine.pretraining import pretrain
from training.scoring.calibrate import VoxelCounts, calibration_error, count_voxels, fit, reliability
from training.scoring.evaluation import read_ct
from training.scoring.once import once, read_made_from
from training.scoring.partial_labels import best_outline, only_annotated
from training.scoring.scores import replace_missing, score
from training.scoring.truths import Truth, find_truths, read_instances
from training.scoring.tune import Marked, choose, mark

FLIPS = 2  # with which each network looks for nodes that nobody annotated


@dataclass(frozen=True)
class Hard:
    """Train and score rows on the hard set."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets phantoms, labels, runs and scores
    results: Path | None = None  # gets hard.md and hard.csv; the output where none is given
    size: Literal["small", "tiny"] = "small"  # of the ablation: its configuration
    arms: tuple[ArmName, ...] = tuple(ARMS)
    shares: tuple[float, ...] = (0.2, 0.05)  # of the nodes that are annotated
    seeds: tuple[int, ...] = (0, 1, 2)
    length: float = 1.0  # so many times the epochs of each row
    train: int = 60  # phantoms to train on
    tune: int = 8  # to choose thresholds on
    test: int = 12  # to score
    threads: int = 0
    workers: int = 1  # processes that make and prepare phantoms

    @property
    def data(self) -> HardSet:
        """The phantoms."""
        return HardSet(self.output / "phantoms", self.train, self.tune, self.test, 256 if self.size == "small" else 64)


@dataclass(frozen=True, eq=False)
class OnTune:
    """What a network marks in the phantoms to choose thresholds on."""

    marked: list[list[Marked]]  # of each at each threshold
    partly: list[list[Marked]]  # the same, judged by partial labels
    counts: VoxelCounts


@dataclass(frozen=True)
class Cell:
    """A row with a share of annotated nodes and a seed."""

    command: Hard
    name: ArmName
    share: float
    seed: int

    @property
    def arm(self) -> Arm:
        """How it is trained."""
        return ARMS[self.name]

    @property
    def folder(self) -> Path:
        """Gets its runs and its score."""
        return self.command.output / "cells" / f"{self.name}-{self.share:g}-seed{self.seed}"

    def config(self, number: int = 1) -> Config:
        """The configuration of a round, from 1."""
        base = self.arm.applied_to(SIZES[self.command.size].config)
        epochs = max(1, round(self.command.length * self.arm.epochs[number - 1]))
        stage = dataclasses.replace(base.finetune, epochs=epochs)
        return dataclasses.replace(base, seed=self.seed, threads=self.command.threads, picture_every=0, finetune=stage)

    def trained_from(self) -> dict[str, Any]:
        """What its networks depend on, as plain data."""
        configs = (self.config(number) for number in range(1, len(self.arm.epochs) + 1))
        rounds = [to_plain(dataclasses.replace(config, threads=0)) for config in configs]
        for config in rounds:
            drop_usual(config)
        data = dataclasses.replace(self.command.data, folder=Path(), test=0)
        rules = {"copies": COPIES_VERSION} if self.arm.copies else {}
        return rules | {
            "arm": to_plain(self.arm), "share": self.share, "config": rounds,
            "data": to_plain(data), "flips": FLIPS,
        }  # fmt: skip

    def made_from(self) -> dict[str, Any]:
        """What its score depends on, as plain data."""
        return {"trained_from": self.trained_from(), "test": self.command.test}

    def start_afresh_unless_alike(self, console: Console) -> None:
        """Remove what was trained otherwise."""
        path, wanted = self.folder / "trained_from.json", json.dumps(self.trained_from())
        if self.folder.is_dir() and not (path.is_file() and path.read_text() == wanted):
            console.print(f"{self.folder} was trained otherwise: it starts afresh")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, wanted)

    def train(self, console: Console) -> Path:
        """Train it; returns the last round's bundle. Raises RuntimeError where a signal stopped it."""
        self.start_afresh_unless_alike(console)
        table = self.command.data.table(self.share, self.arm.full)
        init = self._pretrained(table, console) if self.arm.pretrained else None
        for number in range(1, len(self.arm.epochs) + 1):
            if number > 1:
                assert init is not None  # the last round's
                table = self._mined(number, table, init)
            init = self._round(number, self._prepared(table, number, console), init)
        assert init is not None
        return init

    def _round(self, number: int, data: Path, init: Path | None) -> Path:
        run_folder, bundle = self.folder / f"round{number}", self.folder / f"model{number}"
        if not (bundle / "spec.json").is_file():
            if not finetune(data, run_folder, self.config(number), init, self.arm.objective):
                raise RuntimeError("Stopped; the same command goes on from there")
            export([run_folder / "finetune.pt"], bundle)
        return bundle

    def _prepared(self, table: Path, number: int, console: Console) -> Path:
        """The prepared cases of a table. Those of the first round are the same for all seeds."""
        folder = self.command.output / "prepared" / table.stem if number == 1 else self.folder / f"prepared{number}"
        config = self.config()
        workers = self.command.workers
        if not (folder / "dataset.json").is_file():
            prepare_cases(Preparation((table,), folder, config.spacing_mm, config.crop, processes=workers), console)
        return folder

    def _pretrained(self, table: Path, console: Console) -> Path:
        """The checkpoint of pre-training, which reads no label: one for all shares and seeds."""
        folder, config = self.command.output / "pretrain", dataclasses.replace(self.config(), seed=0)
        if not pretrain(self._prepared(table, 1, console), folder, config):
            raise RuntimeError("Stopped; the same command goes on from there")
        return folder / "pretrain.pt"

    def _mined(self, number: int, table: Path, bundle: Path) -> Path:
        """The table with what a network marks surely as nodes too."""
        found, labels = self.folder / f"found{number}", self.folder / f"labels{number}"
        # Networks answer on scales of their own, so what counts as a mark is chosen, by partial labels.
        threshold = best_outline(self._looked_at(bundle).partly, THRESHOLDS)
        run("training.propose", table, "--models", bundle, "-o", found, "--flips", FLIPS, "--levels", 1,
            "--threshold", threshold, "--limits.count", 1000, "--mined")  # fmt: skip
        run("training.apply_review", table, "--candidates", found, "--decisions", found / "mined", "-o", labels)
        return labels / "cases.csv"

    def _looked_at(self, bundle: Path) -> OnTune:
        """What a network marks in the phantoms to choose thresholds on."""
        model = load_model(bundle)
        marked, partly, counts = [], [], []
        for truth in truths_of(self.command.data, "tune"):
            instances = read_instances(truth.path)
            inferred = infer(read_ct(truth, instances), model)
            marked.append(mark(inferred, instances, model.spec, THRESHOLDS))
            annotated = self.command.data.annotated(truth.case, self.share)
            partly.append([only_annotated(one, annotated) for one in marked[-1]])
            counts.append(count_voxels(inferred, instances))
        return OnTune(marked, partly, sum(counts[1:], start=counts[0]))

    def score(self, console: Console) -> HardScore:
        """Train and score it, unless that is done."""
        return once(self.folder / "score.json", self.made_from(), HardScore, lambda: self._score(console))

    def _score(self, console: Console) -> HardScore:
        bundle = self.train(console)
        model, on_tune = load_model(bundle), self._looked_at(bundle)
        best, _ = choose(on_tune.marked, THRESHOLDS)
        spec = dataclasses.replace(model.spec, threshold=best.threshold, peak_threshold=best.peak_threshold)
        by_outline = dataclasses.replace(spec, threshold=best_outline(on_tune.partly, THRESHOLDS), peak_threshold=0.0)
        results, dice_partial, counts = [], [], []
        for truth in truths_of(self.command.data, "test"):
            instances = read_instances(truth.path)
            inferred = infer(read_ct(truth, instances), model)
            results.append(score(truth.case, mask_of(inferred, spec), instances, 0.0))
            dice_partial.append(dice(mask_of(inferred, by_outline).array, instances.array))
            counts.append(count_voxels(inferred, instances))
        nodes = [node for result in results for node in result.node_results]
        return HardScore(
            self.name, COMPLETE if self.arm.complete else self.share, self.seed, best.threshold, best.peak_threshold,
            tuple(result.dice for result in results),
            tuple(replace_missing([result.assd_mm for result in results])),
            tuple(node.short_axis_mm for node in nodes), tuple(node.found for node in nodes),
            tuple(result.false_components for result in results),
            error_after_fit(on_tune.counts, sum(counts[1:], start=counts[0])), by_outline.threshold,
            tuple(dice_partial),
        )  # fmt: skip


def error_after_fit(fitted: VoxelCounts, scored: VoxelCounts) -> float | None:
    """The calibration error of some voxels after a fit on others; None where no calibration can be fitted."""
    try:
        calibration = fit(fitted)
    except ValueError:
        return None
    error = calibration_error(reliability(scored, calibration))
    return None if math.isnan(error) else error


def truths_of(data: HardSet, name: str) -> list[Truth]:
    """The wholly annotated phantoms of a purpose."""
    return find_truths([data.folder / name])[0]


def cells_of(command: Hard) -> list[Cell]:
    """The cells that a command asks for, each once: complete labels know no share."""
    cells = [
        Cell(command, name, COMPLETE if ARMS[name].complete else share, seed)
        for share in command.shares
        for seed in command.seeds
        for name in command.arms
    ]
    return list(dict.fromkeys(cells))


def scores_of(command: Hard) -> list[HardScore]:
    """The scores in the output that such a command makes, whatever rows, shares and seeds it asks for."""
    scores = []
    for path in (command.output / "cells").glob("*/score.json"):
        named = re.fullmatch(r"(?P<name>.+)-(?P<share>.+)-seed(?P<seed>\d+)", path.parent.name)
        if named and (name := next((one for one in ARMS if one == named["name"]), None)):
            cell = Cell(command, name, float(named["share"]), int(named["seed"]))
            scores.append(read_made_from(path, cell.made_from(), HardScore))
    return sort_scores([one for one in scores if one is not None])


def work(command: Hard, console: Console) -> bool:
    """Run the command; the table grows by a row per cell."""
    command.data.make(command.workers)
    cells: Sequence[Cell] = cells_of(command)
    for number, cell in enumerate(cells, start=1):
        console.print(f"Cell {number} of {len(cells)}: {cell.folder.name}")
        one = cell.score(console)
        console.print(f"{cell.folder.name}: Dice {100 * float(np.mean(one.dice)):.1f} %")
        write_results(command.results or command.output, scores_of(command), options_of(command))
    return True


def options_of(command: Hard) -> list[str]:
    """The command's options that change what is measured, but for rows, shares and seeds: the table has these."""
    usual, words = Hard(Path("OUT")), ["-o", "OUT"]
    for name in ("size", "length", "train", "tune", "test"):
        if getattr(command, name) != getattr(usual, name):
            words += [f"--{name}", str(getattr(command, name))]
    return words


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(Hard, args=arguments, prog="python -m benchmarks.hard")
    return run_command(lambda: work(command, plain_console()))


if __name__ == "__main__":
    sys.exit(main())
