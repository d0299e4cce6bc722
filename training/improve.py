"""Make a better bundle from a given one and a few own cases: prepare, fine-tune, choose thresholds, export, compare.

    python -m training.improve CASES... --model model -o OUT

CASES are sources as of `training.prepare`: wholly annotated, annotated in part, or reviewed. Some are held out. OUT
gets the new bundle in `model`, and `improve.md`: what the given and the new bundle find in the held-out cases, and what
that cannot tell. The same command, run again, goes on where it was stopped. The given bundle stays as it is.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

import tyro
from rich.console import Console
from rich.progress import track

from lnq.files import write_text
from lnq.inference.backends import load_model
from lnq.inference.spec import SPEC_NAME, ModelSpec
from lnq.pipeline import infer
from training.bundle.write import export
from training.command import plain_console, run_command
from training.config import COMPACT, Config, Losses, Stage
from training.data.holding_out import hold_out
from training.data.preparation import Preparation, prepare_cases
from training.data.sources.find import find_cases
from training.data.sources.raw_case import Annotation, RawCase
from training.data.splits import SPLITS_NAME, make_splits, read_splits, write_splits
from training.dataset_page.page import report_dataset
from training.engine.finetuning import finetune
from training.method.step import WITHOUT_PCE
from training.scoring.before_after import COLUMNS, HeldOutScore, read_instances_of, score_once, table
from training.scoring.tune import CHOSEN_BY, THRESHOLDS, Marked, choose, mark

FEW_CASES = 10  # wholly annotated ones to compare on: with fewer, a difference may be chance
# Short, at a low rate, as the weights are trained already.
_STAGE = Stage(epochs=20, iterations=60, lr=0.002, momentum=0.9, ema=0.99)
# What nobody marked is background, as in the paper: with certain background alone a trial made more other marks.
_LOSSES = Losses()


@dataclass(frozen=True)
class Improve:
    """Fine-tune a bundle on own cases, and compare both on cases that were held out."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # as of training.prepare
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets prepared cases, the run, the new bundle, improve.md
    model: Path = Path("model")  # bundle to start from; it is not changed
    annotation: Annotation = "auto"  # as of training.prepare
    hold_out: float = 0.25  # share of the patients to compare on, unless the sources hold out cases themselves
    finetune: Stage = _STAGE
    losses: Losses = _LOSSES
    device: Literal["auto", "cpu", "cuda"] = "auto"  # of the comparison
    processes: int = 1  # cases prepared side by side
    seed: int = 0
    threads: int = 0  # CPU threads of the training


def improve(command: Improve, console: Console) -> bool:
    """Do all steps that are not done yet; returns False where a signal stopped the training.

    Raises ValueError where no case can be trained on, and where the bundle is an ensemble.
    """
    spec = ModelSpec.load(command.model)
    if spec.members > 1:
        raise ValueError(
            f"{command.model} holds {spec.members} networks: improve one of them, then export them together"
        )
    WITHOUT_PCE.refuse_unread(command.losses)
    prepared = command.output / "prepared"
    found = find_cases(command.sources, command.annotation, console)
    cases = hold_out([case for case in found if case.label is not None], command.hold_out)
    cases = _keep_splits(prepared, cases, console)
    wanted = Preparation(
        command.sources, prepared, spec.spacing_mm, spec.crop, command.annotation, processes=command.processes
    )
    prepare_cases(wanted, console)
    report_dataset(prepared, console)
    run = command.output / "run"
    config = config_of(spec, command)
    if not finetune(prepared, run, config, command.model, WITHOUT_PCE, normalisation=spec.normalisation):
        return False
    bundle = command.output / "model"
    if not (bundle / SPEC_NAME).is_file():
        _export(run / "finetune.pt", bundle, spec, [c for c in cases if c.split == "validation"], command, console)
    held_out = [case for case in cases if case.split == "test"]
    before, after = (
        _score(held_out, path, command, command.output / "scores" / name, console)
        for name, path in (("before", command.model), ("after", bundle))
    )
    used = [case for case in cases if (prepared / case.name / "case.json").is_file()]
    text = report(used, before, after, ModelSpec.load(bundle))
    write_text(command.output / "improve.md", text)
    console.print(text)
    return True


def config_of(spec: ModelSpec, command: Improve) -> Config:
    """The configuration of fine-tuning: what the bundle fixes, and otherwise that of the preset compact."""
    return dataclasses.replace(
        COMPACT,
        network=spec.network,
        spacing_mm=spec.spacing_mm,
        crop=spec.crop,
        patch=spec.patch,
        normalisation=cast(Literal["zscore", "ct"], spec.normalisation.kind),
        finetune=command.finetune,
        losses=command.losses,
        seed=command.seed,
        threads=command.threads,
    )


def _keep_splits(prepared: Path, cases: Sequence[RawCase], console: Console) -> list[RawCase]:
    """Note where each case belongs, which preparing then keeps. What an earlier run noted stays."""
    path = prepared / SPLITS_NAME
    if not path.is_file():
        prepared.mkdir(parents=True, exist_ok=True)
        write_splits(path, make_splits([(case.name, case.patient, case.split) for case in cases], {}))
    rows = read_splits(path)
    new = [case.name for case in cases if case.name not in rows]
    if new:
        raise ValueError(f"{path} does not name {len(new)} of the cases, such as {new[0]}: give another output folder")
    kept = [dataclasses.replace(case, split=rows[case.name].split) for case in cases]
    if any(one.split != other.split for one, other in zip(kept, cases, strict=True)):
        console.print(f"Cases are held out as {path} says")
    return kept


def _export(
    checkpoint: Path, bundle: Path, given: ModelSpec, cases: Sequence[RawCase], command: Improve, console: Console
) -> None:
    """Write the new bundle, with thresholds chosen on cases with complete truth or else those of the given bundle.

    They are on the given bundle's calibrated probability, so its calibration stays too.
    The rules of post-processing are the given bundle's: a few cases tell little of the size and density of nodes.
    """
    part = bundle.with_name("model.part")
    export([checkpoint], part, given.threshold, given.peak_threshold, given.window_step, given.mirror)
    spec = dataclasses.replace(ModelSpec.load(part), postprocess=given.postprocess, calibration=given.calibration)
    full = [case for case in cases if case.full]
    if full:
        spec.save(part)
        model = load_model(part, command.device)
        marked = []
        for case in track(full, "Choosing thresholds", console=console):
            try:
                ct, instances = read_instances_of(case)
                marked.append((case.name, mark(infer(ct, model), instances, spec, THRESHOLDS)))
            except (ValueError, OSError, MemoryError) as error:
                console.print(f"{case.name} is left out: {error}")
        spec = _with_thresholds(spec, marked)
    spec.save(part)
    part.rename(bundle)


def _with_thresholds(spec: ModelSpec, marked: Sequence[tuple[str, list[Marked]]]) -> ModelSpec:
    """The specification with the thresholds that are best on cases, named beside what is marked in them."""
    if not marked:
        return spec
    best, _ = choose([levels for _, levels in marked], THRESHOLDS)
    by = {"by": CHOSEN_BY, "cases": [name for name, _ in marked]}
    return dataclasses.replace(
        spec,
        threshold=best.threshold,
        peak_threshold=best.peak_threshold,
        provenance=spec.provenance | {"threshold": by},
    )


def _score(
    cases: Sequence[RawCase], bundle: Path, command: Improve, folder: Path, console: Console
) -> list[HeldOutScore]:
    """Scores of a bundle on all cases that can be scored."""
    model = load_model(bundle, command.device)
    scores = []
    for case in track(cases, f"Scoring {folder.name}", console=console):
        try:
            scores.append(score_once(case, model, folder))
        except (ValueError, OSError, MemoryError) as error:
            console.print(f"{case.name} is not compared: {error}")
    return scores


def report(
    cases: Sequence[RawCase], before: Sequence[HeldOutScore], after: Sequence[HeldOutScore], spec: ModelSpec
) -> str:
    """The comparison as Markdown, with what it cannot know."""
    trained = [case for case in cases if case.split == "train"]
    full = sum(case.full for case in trained)
    lines = ["# Before and after", "", f"Trained on {len(trained)} cases, {full} of them wholly annotated.", ""]
    rows = table(before, after)
    if rows:
        lines += [f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS), *rows)] + [""]
    if verdict := worse(before, after):
        lines += [f"**{verdict}**", ""]
    both = {one.case for one in before}
    lines += [f"- {sentence}" for sentence in unknowns(cases, [one for one in after if one.case in both], spec)]
    return "\n".join(lines) + "\n"


def worse(before: Sequence[HeldOutScore], after: Sequence[HeldOutScore]) -> str:
    """A sentence where the new bundle has a lower mean Dice on the wholly annotated cases that both scored, or ""."""
    dices = {one.case: one.dice for one in before if one.dice is not None}
    pairs = [(dices[one.case], one.dice) for one in after if one.dice is not None and one.case in dices]
    if not pairs or sum(new - old for old, new in pairs) >= 0:
        return ""
    return "The new bundle is worse than the given one on these cases: keep the given one."


def unknowns(cases: Sequence[RawCase], scored: Sequence[HeldOutScore], spec: ModelSpec) -> list[str]:
    """What the comparison cannot know, in sentences. `scored`: held-out cases that both bundles were scored on."""
    full = sum(one.full for one in scored)
    said = []
    if not scored:
        said.append("No held-out case could be scored with both: nobody knows whether the new bundle is better.")
    elif not full:
        said.append(
            "No held-out case is wholly annotated: nobody knows the Dice, nor how many of the other marks are nodes."
        )
    elif full < FEW_CASES:
        said.append(f"{full} wholly annotated held-out cases are few: the difference may be chance.")
    if "threshold" in spec.provenance:
        count = len(spec.provenance["threshold"]["cases"])
        said.append(f"The thresholds were chosen on {count} other cases that training did not see.")
    else:
        said.append("No wholly annotated case was left to choose thresholds on: those of the given bundle stay.")
    if len({case.patient for case in cases}) < len(cases):
        said.append("All cases of a patient are on the same side.")
    said.append("Cases of one source say nothing about CTs of other scanners, patients or hospitals.")
    said.append("Not for clinical use.")
    return said


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(Improve, args=arguments, prog="python -m training.improve")
    return run_command(lambda: improve(command, plain_console()))


if __name__ == "__main__":
    sys.exit(main())
