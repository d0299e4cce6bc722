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
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lnq.backends import Model, load_model
from lnq.pipeline import infer, to_mask
from lnq.spec import ModelSpec
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
    write_sweep,
)
from training.truths import Truth, find_truths, read_instances, read_prediction, refuse_other_grid

THRESHOLDS = (*np.round(np.arange(0.05, 0.96, 0.05), 2).tolist(), 0.97, 0.98, 0.99, 0.995)


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
    threshold: float | None = None  # instead of the bundle's; a checkpoint's is 0.5
    tune_threshold: bool = False  # choose the one of best mean Dice; it is written into the bundle's spec.json
    worst: int = 3  # draw so many cases of lowest Dice

    @property
    def scored(self) -> str:
        """What is scored, as a path."""
        return str(self.predictions or self.checkpoint or self.model)


Threshold = float | None
"""On the probability; None for masks that were there before."""

Masks = Callable[[Truth, Volume], Iterator[tuple[Threshold, Volume, float]]]
"""(case, its truth) -> threshold, mask and seconds, for each threshold."""


@dataclass
class Scored:
    """All results at one threshold."""

    worst: WorstCases
    results: list[CaseResult] = field(default_factory=list)


def masks_of_model(model: Model, mirror: bool, thresholds: Sequence[float]) -> Masks:
    """What the model marks at each threshold."""

    def masks(truth: Truth, instances: Volume) -> Iterator[tuple[Threshold, Volume, float]]:
        assert truth.ct is not None  # find_truths asks for one
        volume = read_volume(truth.ct)
        refuse_other_grid(truth.ct.name, volume, truth, instances)
        inferred = infer(volume, model, mirror)
        seconds = sum(inferred.seconds.values())
        for threshold in thresholds:
            yield threshold, to_mask(inferred, volume, model.spec, threshold), seconds

    return masks


def masks_of_folder(folder: Path) -> Masks:
    """What lies in a folder. Raises ValueError where there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")

    def masks(truth: Truth, instances: Volume) -> Iterator[tuple[Threshold, Volume, float]]:
        mask = read_prediction(folder, truth)
        refuse_other_grid("The prediction", mask, truth, instances)
        yield None, mask, math.nan

    return masks


def score_all(
    truths: Sequence[Truth], masks: Masks, worst: int, console: Console
) -> tuple[dict[Threshold, Scored], dict[str, str]]:
    """Results per threshold, without replaced ASSDs, and why cases are left out: one ends none of the others."""
    scored: dict[Threshold, Scored] = {}
    failed: dict[str, str] = {}
    for truth in track(truths, "Scoring", console=console):
        try:
            instances = read_instances(truth.path)
            rows = [
                (threshold, score(truth.case, mask, instances, seconds), np.packbits(mask.array > 0))
                for threshold, mask, seconds in masks(truth, instances)
            ]
        except Exception as error:
            failed[truth.case] = str(error) or type(error).__name__
            continue
        for threshold, result, bits in rows:
            entry = scored.setdefault(threshold, Scored(WorstCases(worst)))
            entry.results.append(result)
            entry.worst.add(truth, result, bits)
    return scored, failed


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


def evaluate(command: Evaluate, console: Console) -> tuple[dict[Threshold, Scored], dict[str, str]]:
    """Results at the bundle's (or the given) threshold, or at all of THRESHOLDS, and why cases are left out."""
    refuse_contradictions(command)
    truths, left_out = find_truths(command.sources, need_ct=command.predictions is None)
    if command.predictions is not None:
        scored, failed = score_all(truths, masks_of_folder(command.predictions), command.worst, console)
    else:
        with open_model(command) as model:
            chosen = model.spec.threshold if command.threshold is None else command.threshold
            thresholds = THRESHOLDS if command.tune_threshold else (chosen,)
            masks = masks_of_model(model, command.mirror, thresholds)
            scored, failed = score_all(truths, masks, command.worst, console)
    failed = left_out | failed
    for case, reason in failed.items():
        console.print(f"{case} is left out: {reason}", highlight=False, markup=False, soft_wrap=True)
    if not scored:
        raise ValueError(f"No case could be scored, {len(failed)} were left out")
    for entry in scored.values():
        entry.results = replace_missing_assd(entry.results)
    return scored, failed


def store_threshold(bundle: Path, threshold: float, results: Sequence[CaseResult]) -> None:
    """Write the threshold into the bundle's spec.json, with what it was chosen on."""
    spec = ModelSpec.load(bundle)
    chosen = {"by": "best mean Dice", "cases": [r.case for r in results], "mean_dice": summary(results)["mean_dice"]}
    provenance = spec.provenance | {"threshold": chosen}
    dataclasses.replace(spec, threshold=threshold, provenance=provenance).save(bundle)


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


def write(command: Evaluate, scored: dict[Threshold, Scored], failed: dict[str, str]) -> None:
    """Write tables and pictures, store the threshold where one was to be chosen, and print the table."""
    command.output.mkdir(parents=True, exist_ok=True)
    best = max(scored, key=lambda threshold: summary(scored[threshold].results)["mean_dice"])
    results = scored[best].results
    at = "" if best is None else f" at threshold {best}"
    if command.tune_threshold and best is not None:
        write_sweep(command.output, {threshold: entry.results for threshold, entry in scored.items()})
        if command.checkpoint is None:
            store_threshold(command.model, best, results)
        else:
            print(f"Threshold {best} is the best: give it to training.export --threshold", file=sys.stderr)
    facts = {"scored": command.scored, "threshold": best, "left_out": failed}
    write_results(command.output, results, facts)
    plot_scores(results, command.output / "scores.png", f"{command.scored}{at}")
    scored[best].worst.draw(command.output / "worst")
    show(results, f"{command.scored}{at}", Console())


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 1 where cases were left out."""
    failed: dict[str, str] = {}

    def work() -> bool:
        command = tyro.cli(Evaluate, args=arguments)
        scored, reasons = evaluate(command, Console(stderr=True))
        write(command, scored, reasons)
        failed.update(reasons)
        return True

    status = run_command(work)
    if status == 0 and failed:
        print(f"{len(failed)} cases were left out: {', '.join(sorted(failed))}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
