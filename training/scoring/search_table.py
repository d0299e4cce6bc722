"""The trials of a search for parameters, as a table and in words."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnq.files import replace_atomically
from training.config import Losses
from training.scoring.partial_labels import Recall

COLUMNS = (
    "trial", "gamma", "alpha", "tau", "lambda", "threshold", "peak_threshold", "nodes", "found", "covered",
    "marks_per_case", "dice_complete", "dice_complete_best",
)  # fmt: skip


@dataclass(frozen=True)
class Complete:
    """What complete labels of the held-out cases say: mean Dice at the thresholds that partial ones chose, and best."""

    dice: float
    best_dice: float


@dataclass(frozen=True)
class SearchTrial:
    """Parameters, what partial labels say of the network that they gave, and maybe what complete ones do."""

    losses: Losses
    recall: Recall
    complete: Complete | None = None


def best_of(trials: Sequence[SearchTrial]) -> int:
    """The number of the best trial, counted from 0: the first of those of the highest rank."""
    return max(range(len(trials)), key=lambda number: (trials[number].recall.rank, -number))


def write_trials(path: Path, trials: Sequence[SearchTrial]) -> None:
    """Write a CSV table with a row per trial."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, trial in enumerate(trials, start=1):
            losses, found, complete = trial.losses, trial.recall, trial.complete
            writer.writerow(
                [number, *(round(value, 4) for value in (losses.gamma, losses.alpha, losses.tau, losses.final)),
                 found.threshold, found.peak_threshold, found.nodes, found.found, round(found.covered, 4),
                 round(found.marks_per_case, 2),
                 *(("", "") if complete is None else (round(complete.dice, 4), round(complete.best_dice, 4)))]
            )  # fmt: skip


def report(trials: Sequence[SearchTrial], marks: float, held_out: int) -> str:
    """What was chosen, as Markdown, with the options to train with and what the choice cannot know."""
    number = best_of(trials)
    best, first = trials[number], trials[0]
    losses, found = best.losses, best.recall
    values = {"gamma": losses.gamma, "alpha": losses.alpha, "tau": losses.tau, "final": losses.final}
    lines = [
        "# Search", "",
        f"{len(trials)} trials, judged on {held_out} held-out cases with {found.nodes} annotated nodes, at no "
        f"more than {marks:g} marks per CT.", "",
        f"- Best is trial {number + 1}: {_told(found)}.",
        f"- The given parameters, trial 1: {_told(first.recall)}.",
        f"- Of all trials the fewest nodes found are {min(trial.recall.found for trial in trials)}.",
    ]  # fmt: skip
    if best.complete is not None and first.complete is not None:
        whole = [trial.complete for trial in trials if trial.complete is not None]
        lines += [
            f"- By complete labels the choice has a mean Dice of {best.complete.dice:.3f}, the given parameters "
            f"{first.complete.dice:.3f}. Complete labels would have chosen {max(one.best_dice for one in whole):.3f}.",
        ]
    lines += [
        "", "```",
        "training.finetune " + " ".join(f"--losses.{name} {value:.3g}" for name, value in values.items()),
        f"training.export --threshold {found.threshold:g} --peak-threshold {found.peak_threshold:g}",
        "```", "",
        "One node more or less may be chance. Another seed, other cases or a longer training may choose differently.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _told(found: Recall) -> str:
    return (
        f"{found.found} of {found.nodes} nodes at {found.marks_per_case:.1f} marks per CT, threshold "
        f"{found.threshold:g}, peak {found.peak_threshold:g}"
    )
