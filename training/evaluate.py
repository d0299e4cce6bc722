"""Score masks, a model bundle or a training checkpoint on complete truth, or choose a threshold on it (METHOD
section 8).

    python -m training.evaluate DIR... --model model -o RESULTS
    python -m training.evaluate DIR... --checkpoint RUN/finetune.pt -o RESULTS
    python -m training.evaluate DIR... --predictions OUT -o RESULTS
    python -m training.evaluate DIR... --model model -o RESULTS --tune-threshold

A DIR holds `<case>-ct.nrrd` with `<case>-nodes.nrrd` (every node its own label) or a complete `<case>-seg.nrrd`.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lnq.backends import Model, load_model
from lnq.pipeline import infer, to_mask
from lnq.volume import Volume, read_volume
from training.command import run_command
from training.score_plots import WorstCases, plot_scores
from training.scores import (
    EMPTY_RULE,
    CaseResult,
    bin_name,
    by_size,
    replace_missing_assd,
    score,
    summary,
    write_results,
)
from training.truths import Truth, find_truths, read_instances, read_prediction, refuse_other_grid
from training.tune import THRESHOLDS, Marked, Tried, choose, mark, store_cut, write_tried


@dataclass(frozen=True)
class Evaluate:
    """Score a model bundle, a checkpoint or a folder of masks on CTs with complete truth."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # folders with <case>-ct.nrrd and -nodes.nrrd or -seg.nrrd
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets tables, plots and pictures of the worst cases
    model: Path = Path("model")  # bundle
    checkpoint: Path | None = None  # finetune.pt, instead of a bundle
    predictions: Path | None = None  # folder of masks <case>.<ext> or <case>/segmentation.<ext>, instead of a bundle
    device: Literal["auto", "cpu", "cuda", "cpu-torch"] = "auto"
    mirror: bool = False  # average over eight flips, at eight times the time
    threshold: float | None = None  # instead of the bundle's (a checkpoint's is 0.5); its peak threshold stays
    tune_threshold: bool = False  # choose it by Dice, that of a node's peak by F1; both go into the bundle's spec.json
    worst: int = 3  # draw so many cases of lowest Dice

    @property
    def scored(self) -> str:
        """What is scored, as a path."""
        return str(self.predictions or self.checkpoint or self.model)


Masks = Callable[[Truth, Volume], tuple[Volume, float]]
"""(case, its truth) -> mask and seconds."""


@dataclass
class Scored:
    """Results of all cases, and why cases are left out."""

    worst: WorstCases
    results: list[CaseResult] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def masks_of_model(model: Model, mirror: bool) -> Masks:
    """What the model marks."""

    def masks(truth: Truth, instances: Volume) -> tuple[Volume, float]:
        volume = read_ct(truth, instances)
        inferred = infer(volume, model, mirror)
        return to_mask(inferred, volume, model.spec), sum(inferred.seconds.values())

    return masks


def read_ct(truth: Truth, instances: Volume) -> Volume:
    """The case's CT. Raises ValueError where its grid is not the truth's."""
    assert truth.ct is not None  # find_truths asks for one
    volume = read_volume(truth.ct)
    refuse_other_grid(truth.ct.name, volume, truth, instances)
    return volume


def masks_of_folder(folder: Path) -> Masks:
    """What lies in a folder. Raises ValueError where there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")

    def masks(truth: Truth, instances: Volume) -> tuple[Volume, float]:
        mask = read_prediction(folder, truth)
        refuse_other_grid("The prediction", mask, truth, instances)
        return mask, math.nan

    return masks


def score_all(truths: Sequence[Truth], masks: Masks, worst: int, console: Console) -> Scored:
    """Results, without replaced ASSDs; a case that cannot be scored ends none of the others."""
    scored = Scored(WorstCases(worst))

    def work(truth: Truth, instances: Volume) -> None:
        mask, seconds = masks(truth, instances)
        result = score(truth.case, mask, instances, seconds)
        scored.results.append(result)
        scored.worst.add(truth, result, np.packbits(mask.array > 0))

    scored.failed = _each(truths, work, "Scoring", console)
    return scored


def tune(
    model: Model, truths: Sequence[Truth], mirror: bool, console: Console
) -> tuple[Tried, list[Tried], dict[str, str]]:
    """The chosen thresholds, all that were tried, and why cases are left out: nothing is tried where all are."""
    marked: list[list[Marked]] = []

    def work(truth: Truth, instances: Volume) -> None:
        inferred = infer(read_ct(truth, instances), model, mirror)
        marked.append(mark(inferred, instances, model.spec, THRESHOLDS))

    failed = _each(truths, work, "Tuning", console)
    if not marked:
        return Tried(0.5, 0.0, math.nan, math.nan, math.nan, math.nan), [], failed
    return *choose(marked, THRESHOLDS), failed


def _each(
    truths: Sequence[Truth], work: Callable[[Truth, Volume], None], title: str, console: Console
) -> dict[str, str]:
    """Do something with each case; why it failed where it did."""
    failed: dict[str, str] = {}
    for truth in track(truths, title, console=console):
        try:
            work(truth, read_instances(truth.path))
        except Exception as error:
            failed[truth.case] = str(error) or type(error).__name__
    return failed


@contextmanager
def open_model(command: Evaluate) -> Iterator[Model]:
    """The bundle's model, or the checkpoint's by way of a bundle that is gone afterwards."""
    if command.checkpoint is None:
        yield load_model(command.model, command.device)
        return
    from training.export import export  # brings ONNX and OpenVINO

    with tempfile.TemporaryDirectory(prefix="lnq-evaluate-") as folder:
        export(command.checkpoint, Path(folder) / "model")
        yield load_model(Path(folder) / "model", command.device)


def refuse_contradictions(command: Evaluate) -> None:
    """Raise ValueError for options that do not go together."""
    if command.checkpoint is not None and command.predictions is not None:
        raise ValueError("--checkpoint and --predictions exclude each other")
    if command.predictions is not None and (command.tune_threshold or command.mirror or command.threshold is not None):
        raise ValueError("Masks that are there have no threshold or mirroring: --predictions goes without these")
    if command.tune_threshold and command.threshold is not None:
        raise ValueError("--threshold and --tune-threshold exclude each other")


@dataclass
class Outcome:
    """The results and, where they come from a model, at which thresholds, and those that were tried."""

    scored: Scored
    cut: tuple[float, float] | None = None  # threshold and peak threshold; None for masks that were there before
    tried: list[Tried] = field(default_factory=list)


def evaluate(command: Evaluate, console: Console) -> Outcome:
    """Score at the bundle's (or the given) threshold, or at those that are best on these cases.

    Raises ValueError where no case can be scored.
    """
    refuse_contradictions(command)
    truths, left_out = find_truths(command.sources, need_ct=command.predictions is None)
    if command.predictions is not None:
        outcome = Outcome(score_all(truths, masks_of_folder(command.predictions), command.worst, console))
    else:
        with open_model(command) as model:
            outcome = _evaluate_model(command, model, truths, console)
    scored = outcome.scored
    scored.failed = left_out | scored.failed
    for case, reason in scored.failed.items():
        console.print(f"{case} is left out: {reason}", highlight=False, markup=False, soft_wrap=True)
    if not scored.results:
        raise ValueError(f"No case could be scored, {len(scored.failed)} were left out")
    scored.results = replace_missing_assd(scored.results)
    return outcome


def _evaluate_model(command: Evaluate, model: Model, truths: Sequence[Truth], console: Console) -> Outcome:
    spec, tried, failed = model.spec, list[Tried](), dict[str, str]()
    if command.threshold is not None:
        spec = dataclasses.replace(spec, threshold=command.threshold)
    if command.tune_threshold:
        best, tried, failed = tune(model, truths, command.mirror, console)
        spec = dataclasses.replace(spec, threshold=best.threshold, peak_threshold=best.peak_threshold)
    usable = [truth for truth in truths if truth.case not in failed]
    masks = masks_of_model(dataclasses.replace(model, spec=spec), command.mirror)
    scored = score_all(usable, masks, command.worst, console)
    scored.failed |= failed
    return Outcome(scored, (spec.threshold, spec.peak_threshold), tried)


def show(results: Sequence[CaseResult], title: str, console: Console) -> None:
    """Print the table of cases, the detection by size, the summary, and how empty masks count."""
    table = Table(title=title)
    for heading in ("case", "Dice", "ASSD mm", "nodes", "of 8 mm found", "false", "seconds"):
        table.add_column(heading, justify="left" if heading == "case" else "right", overflow="fold")
    for r in results:
        assd = f"{r.assd_mm:.2f}{'*' if r.assd_replaced else ''}"
        found, seconds = f"{r.large_found}/{r.large_nodes}", "" if math.isnan(r.seconds) else f"{r.seconds:.1f}"
        table.add_row(r.case, f"{r.dice:.3f}", assd, str(r.nodes), found, str(r.false_components), seconds)
    console.print(table)
    sizes = Table(title="Nodes by short axis")
    for heading in ("mm", "nodes", "found"):
        sizes.add_column(heading, justify="right")
    for row in by_size(results):
        sizes.add_row(bin_name(row), str(row["nodes"]), str(row["found"]))
    console.print(sizes)
    for name, value in summary(results).items():
        if not (name == "mean_seconds" and math.isnan(value)):
            console.print(f"{name}: {value:.4g}", highlight=False)
    mark = "* " if any(r.assd_replaced for r in results) else ""
    console.print(f"{mark}{EMPTY_RULE}", soft_wrap=True)


def write(command: Evaluate, outcome: Outcome) -> None:
    """Write tables and pictures, store the thresholds where they were to be chosen, and print the table."""
    command.output.mkdir(parents=True, exist_ok=True)
    results, cut, at = outcome.scored.results, outcome.cut, ""
    facts: dict[str, Any] = {"scored": command.scored, "threshold": None, "peak_threshold": None}
    if cut is not None:
        facts |= {"threshold": cut[0], "peak_threshold": cut[1]}
        at = f" at threshold {cut[0]:g}, peak {cut[1]:g}"
        if outcome.tried:
            _keep_chosen(command, cut, outcome)
    write_results(command.output, results, facts | {"left_out": outcome.scored.failed})
    plot_scores(results, command.output / "scores.png", f"{command.scored}{at}")
    outcome.scored.worst.draw(command.output / "worst")
    show(results, f"{command.scored}{at}", Console())


def _keep_chosen(command: Evaluate, cut: tuple[float, float], outcome: Outcome) -> None:
    """Into a table of all that were tried, and the bundle; a checkpoint has none, so they are said."""
    write_tried(command.output / "thresholds.csv", outcome.tried)
    if command.checkpoint is None:
        store_cut(command.model, cut, outcome.scored.results)
        return
    options = f"--threshold {cut[0]:g} --peak-threshold {cut[1]:g}"
    print(f"These thresholds are the best, give them to training.export: {options}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 1 where cases were left out."""
    failed: dict[str, str] = {}

    def work() -> bool:
        command = tyro.cli(Evaluate, args=arguments)
        outcome = evaluate(command, Console(stderr=True))
        write(command, outcome)
        failed.update(outcome.scored.failed)
        return True

    status = run_command(work)
    if status == 0 and failed:
        print(f"{len(failed)} cases were left out: {', '.join(sorted(failed))}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
