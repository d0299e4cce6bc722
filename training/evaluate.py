"""Score masks, a model bundle or a training checkpoint on complete truth, or choose a threshold on it (METHOD
section 8).

    python -m training.evaluate DIR... --model model -o RESULTS
    python -m training.evaluate DIR... --checkpoint RUN/finetune.pt -o RESULTS
    python -m training.evaluate DIR... --predictions OUT -o RESULTS
    python -m training.evaluate DIR... --model model -o RESULTS --tune-threshold
    python -m training.evaluate DIR... --model model -o RESULTS --calibrate
    python -m training.evaluate --challenge predictions.json --truth DIR -o RESULTS

A DIR holds `<case>-ct.nrrd` with `<case>-nodes.nrrd` (every node its own label) or a complete `<case>-seg.nrrd`.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from lnq.inference.backends import Model, load_model
from lnq.inference.calibration import UNCALIBRATED, Calibration
from lnq.inference.spec import ModelSpec
from training.command import plain_console, run_command
from training.scoring.calibrate import (
    VoxelCounts,
    calibration_error,
    fit,
    plot_reliability,
    reliability,
    store_calibration,
    write_reliability,
)
from training.scoring.challenge import ChallengeJob, mask_of_job, metrics, read_jobs, without_truth, write_metrics
from training.scoring.evaluation import (
    Scored,
    count_voxels_of_all,
    masks_of_folder,
    masks_of_model,
    score_all,
    tune_thresholds,
)
from training.scoring.plots import plot_scores
from training.scoring.scores import replace_missing_assd, show, write_results
from training.scoring.truths import Truth, find_truths
from training.scoring.tune import Tried, store_cut, write_tried


@dataclass(frozen=True)
class Evaluate:
    """Score a model bundle, a checkpoint, a folder of masks or a submission to the challenge on complete truth."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # folders with <case>-ct.nrrd and -nodes.nrrd or -seg.nrrd
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets tables, plots and pictures of the worst cases
    model: Path = Path("model")  # bundle
    checkpoint: Path | None = None  # finetune.pt, instead of a bundle
    predictions: Path | None = None  # folder of masks <case>.<ext> or <case>/segmentation.<ext>, instead of a bundle
    device: Literal["auto", "cpu", "cuda", "cpu-torch"] = "auto"
    precision: Literal["f32", "int8"] = "f32"  # int8: the bundle's 8-bit network, on a CPU
    mirror: Literal[0, 1, 2, 4, 8] | None = None  # average over so many flips of each window, instead of the bundle's
    members: int | None = None  # run the first so many networks of a bundle that holds several; by default all
    threshold: float | None = None  # instead of the bundle's (a checkpoint's is 0.5); its peak threshold stays
    tune_threshold: bool = False  # choose it by Dice, that of a node's peak by F1; into the bundle, --mirror with them
    calibrate: bool = False  # make the bundle's probability mean what it says; its thresholds move along
    worst: int = 3  # draw so many cases of lowest Dice
    challenge: Path | None = None  # predictions.json of the challenge's platform, instead of a bundle and of sources
    truth: Path | None = None  # folder with <case>-seg.nrrd, for --challenge

    @property
    def scored(self) -> str:
        """The path of what is scored."""
        return str(self.challenge or self.predictions or self.checkpoint or self.model)


@contextmanager
def open_model(command: Evaluate) -> Iterator[Model]:
    """Open the bundle's model, or the checkpoint's from a temporary bundle that is deleted afterwards."""
    if command.checkpoint is None:
        yield load_model(command.model, command.device, None, command.precision, command.mirror, command.members)
        return
    from training.bundle.write import export  # imports ONNX

    with tempfile.TemporaryDirectory(prefix="lnq-evaluate-") as folder:
        export([command.checkpoint], Path(folder) / "model")
        yield load_model(Path(folder) / "model", command.device, mirror=command.mirror)


def refuse_contradictions(command: Evaluate) -> None:
    """Raise ValueError for options that exclude each other."""
    if (command.challenge is None) != (command.truth is None):
        raise ValueError("--challenge and --truth go together")
    alone = Evaluate((), command.output, worst=command.worst, challenge=command.challenge, truth=command.truth)
    if command.challenge is not None and command != alone:
        raise ValueError("--challenge scores masks that are there: only --truth, --output and --worst go with it")
    if command.checkpoint is not None and command.predictions is not None:
        raise ValueError("--checkpoint and --predictions exclude each other")
    of_model = (command.mirror, command.threshold)
    if command.predictions is not None and (command.tune_threshold or of_model != (None, None)):
        raise ValueError("Masks that are there have no threshold or mirroring: --predictions goes without these")
    if command.precision != "f32" and (command.checkpoint is not None or command.predictions is not None):
        raise ValueError(f"--precision {command.precision} is of a bundle's network: it goes with --model alone")
    if command.members is not None and (command.checkpoint is not None or command.predictions is not None):
        raise ValueError("--members is of a bundle's networks: it goes with --model alone")
    if command.members is not None and command.tune_threshold:
        raise ValueError("A bundle's thresholds are those of all its networks: --tune-threshold goes without --members")
    if command.tune_threshold and command.threshold is not None:
        raise ValueError("--threshold and --tune-threshold exclude each other")
    if command.calibrate and (command.checkpoint, command.predictions, command.members) != (None, None, None):
        raise ValueError("--calibrate is of a bundle, with all its networks")
    if command.calibrate and command.mirror is not None and not command.tune_threshold:
        raise ValueError("--calibrate is for the bundle's own mirroring: --mirror goes with it beside --tune-threshold")


@dataclass
class Evaluation:
    """The results, the specification where they come from a model, and the thresholds that were tried."""

    scored: Scored
    spec: ModelSpec | None = None  # None for masks made elsewhere
    tried: list[Tried] = field(default_factory=list)
    counts: VoxelCounts | None = None  # by which `calibration` was fitted
    calibration: Calibration = UNCALIBRATED  # of the bundle's own probability
    metrics: dict[str, Any] | None = None  # for a submission to the challenge without errors


def evaluate(command: Evaluate, console: Console) -> Evaluation:
    """Score at the bundle's or the given threshold, or at the thresholds that are best on these cases.

    Raises ValueError where no case can be scored, except for a submission, whose errors are all printed.
    """
    refuse_contradictions(command)
    jobs: list[ChallengeJob] = []
    if command.challenge is not None and command.truth is not None:
        jobs = read_jobs(command.challenge)
        truths, _ = find_truths([command.truth], need_ct=False)
        left_out = without_truth(jobs, truths, command.truth)
        outcome = Evaluation(score_all(truths, partial(mask_of_job, jobs), command.worst, console))
    elif command.predictions is not None:
        truths, left_out = find_truths(command.sources, need_ct=False)
        outcome = Evaluation(score_all(truths, masks_of_folder(command.predictions), command.worst, console))
    else:
        truths, left_out = find_truths(command.sources)
        with open_model(command) as model:
            outcome = _evaluate_model(command, model, truths, console)
    scored = outcome.scored
    scored.failed = left_out | scored.failed
    for case, reason in scored.failed.items():
        console.print(f"{case} is left out: {reason}")
    if jobs and scored.failed:
        console.print("metrics.json is not written: the platform would fail this submission")
    elif not scored.results:
        raise ValueError(f"No case could be scored, {len(scored.failed)} were left out")
    scored.results = replace_missing_assd(scored.results)
    if jobs and not scored.failed:
        outcome.metrics = metrics(jobs, scored.results)
    return outcome


def _evaluate_model(command: Evaluate, model: Model, truths: Sequence[Truth], console: Console) -> Evaluation:
    spec, tried, failed = model.spec, list[Tried](), dict[str, str]()
    if command.threshold is not None:
        spec = dataclasses.replace(spec, threshold=command.threshold)
    if command.tune_threshold:
        best, tried, failed = tune_thresholds(model, truths, console)
        spec = dataclasses.replace(spec, threshold=best.threshold, peak_threshold=best.peak_threshold)
    counts = None
    if command.calibrate:
        counts, unread = count_voxels_of_all(model, [truth for truth in truths if truth.case not in failed], console)
        failed |= unread
    calibration = UNCALIBRATED if counts is None else fit(counts)  # before anything is stored: it may fail
    usable = [truth for truth in truths if truth.case not in failed]
    masks = masks_of_model(dataclasses.replace(model, spec=spec))
    scored = score_all(usable, masks, command.worst, console)
    scored.failed |= failed
    return Evaluation(scored, spec, tried, counts, calibration)


def write(command: Evaluate, outcome: Evaluation) -> None:
    """Write tables and pictures, store thresholds where some were chosen, and print the table."""
    command.output.mkdir(parents=True, exist_ok=True)
    results, spec, at = outcome.scored.results, outcome.spec, ""
    facts: dict[str, Any] = {"scored": command.scored}
    facts |= dict.fromkeys(("threshold", "peak_threshold", "mirror", "members"))
    if spec is not None:
        facts |= {"threshold": spec.threshold, "peak_threshold": spec.peak_threshold, "mirror": spec.mirror}
        facts |= {"members": spec.members, "precision": command.precision}
        mirrored = f", mirror {spec.mirror}" if spec.mirror else ""
        several = f", {spec.members} members" if spec.members > 1 else ""
        at = f" at threshold {spec.threshold:g}, peak {spec.peak_threshold:g}{mirrored}{several}"
        if outcome.tried:
            _keep_chosen(command, spec, outcome)
    if outcome.counts is not None:
        _keep_calibration(command, outcome.counts, outcome.calibration, [result.case for result in results])
    write_results(command.output, results, facts | {"left_out": outcome.scored.failed})
    if outcome.metrics is not None:
        write_metrics(command.output / "metrics.json", outcome.metrics)
    plot_scores(results, command.output / "scores.png", f"{command.scored}{at}")
    outcome.scored.worst.draw(command.output / "worst")
    show(results, f"{command.scored}{at}", plain_console(stderr=False))


def _keep_chosen(command: Evaluate, spec: ModelSpec, outcome: Evaluation) -> None:
    """Write the table of tried thresholds, and store the chosen ones in the bundle. For a checkpoint, print them."""
    write_tried(command.output / "thresholds.csv", outcome.tried)
    if command.checkpoint is None:
        store_cut(command.model, spec, outcome.scored.results)
        return
    options = f"--threshold {spec.threshold:g} --peak-threshold {spec.peak_threshold:g}"
    options += f" --mirror {spec.mirror}" if spec.mirror else ""
    print(f"These thresholds are the best, give them to training.export: {options}", file=sys.stderr)


def _keep_calibration(command: Evaluate, counts: VoxelCounts, found: Calibration, cases: Sequence[str]) -> None:
    """Store a calibration in the bundle, and write table and picture of what probabilities meant and mean."""
    before, after = reliability(counts, UNCALIBRATED), reliability(counts, found)
    errors = (calibration_error(before), calibration_error(after))
    spec = store_calibration(command.model, found, cases, errors)
    write_reliability(command.output / "reliability.csv", before, after)
    plot_reliability(before, after, command.output / "reliability.png")
    print(
        f"Calibrated: the mean distance between probability and fraction of nodes went from {errors[0]:.3f} to "
        f"{errors[1]:.3f}. The same masks now come from threshold {spec.threshold:.4g}, peak {spec.peak_threshold:.4g}",
        file=sys.stderr,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status, which is 1 where cases were left out."""
    failed: dict[str, str] = {}

    def work() -> bool:
        command = tyro.cli(Evaluate, args=arguments)
        outcome = evaluate(command, plain_console())
        if outcome.scored.results:
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
