"""Measure what each loss of a row does to the background, step by step.

    python -m training.ablation.pulls --data OUT/data/small/4x2x2/train --rows e f -o docs/results

The row is trained. At some steps each loss is asked: how fast would a step of gradient descent on it alone raise the
main branch's log odds of node? The answer is a mean over the batch's voxels that are annotated, and one over those that
are not. Both are derivatives by the learning rate, without momentum, in single precision. Writes pulls.csv and
pulls.md.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor, nn

from lnq.files import replace_atomically, write_text
from training.ablation.rows import ALL_ROWS, TableRow
from training.ablation.sizes import SIZES
from training.command import STOPPED, run_command
from training.config import Config, ConfigArguments
from training.data.dataset import Sample
from training.engine.finetuning import StepMaker, finetune
from training.engine.machine import environment
from training.method.losses import Prediction, one_hot, supervised_loss, total_loss
from training.method.step import (
    Objective,
    Position,
    Step,
    finetuning_step,
    pseudo_label,
    pseudo_losses,
)

STEPS = (0, 10, 20, 40, 80, 160, 320)
NAMES = {"pce": "PCE", "tversky": "Tversky", "sce": "SCE", "ce": "CE", "pseudo": "pseudo label"}


@dataclass(frozen=True)
class Pulls:
    """Measure what the losses of some rows do to the background."""

    data: Path  # prepared cases to train on
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    rows: tuple[str, ...] = ("e", "f")  # of two branches, from chance
    steps: tuple[int, ...] = STEPS  # where a batch has no annotated voxel, nothing is measured
    config: ConfigArguments = SIZES["small"].config


@dataclass(frozen=True)
class Pull:
    """The pull of one loss at one step."""

    row: str
    step: int
    background: float  # mean probability of node over voxels that are not annotated
    node: float  # and over annotated voxels
    loss: str  # a key of NAMES
    on_background: float  # d(mean log odds) / d(learning rate)
    on_node: float


class Enough(Exception):
    """Raised to end training once the last measurement is done."""


def measuring(row: TableRow, steps: Sequence[int], found: list[Pull]) -> StepMaker:
    """Make the row's step so that it first measures, at the given `steps`, into `found`. Then it raises Enough."""

    def make(objective: Objective, config: Config) -> Step:
        own = finetuning_step(objective, config)

        def step(model: nn.Module, batch: Sample, position: Position) -> dict[str, Tensor]:
            if position.step > max(steps):
                raise Enough
            if position.step in steps:
                devices = [batch["image"].device] if batch["image"].is_cuda else []
                with torch.random.fork_rng(devices=devices):  # measuring leaves the run's dropout unchanged
                    found.extend(measure(row, config, model, batch, position))
            return own(model, batch, position)

        return step

    return make


def measure(row: TableRow, config: Config, model: nn.Module, batch: Sample, position: Position) -> list[Pull]:
    """The pulls of all losses of a row, weighted as in Eq. 10, on a batch; none where it has no annotated voxel."""
    y = one_hot(batch["label"])
    if not y[:, 1].any():
        return []
    main, auxiliary = model(batch["image"], both=True)
    weights = [w for w in model.parameters() if w.requires_grad]
    log_odds = main[:, 1] - main[:, 0]
    annotated = y[:, 1] > 0.5
    means = log_odds[~annotated].mean(), log_odds[annotated].mean()
    rise = [_gradient(mean, weights) for mean in means]
    losses = weighted_losses(row, config, Prediction(main), Prediction(auxiliary), y, position)
    p = log_odds.detach().sigmoid()
    levels = float(p[~annotated].mean()), float(p[annotated].mean())
    pulls = []
    for name, loss in losses.items():
        down = _gradient(loss, weights)
        both = [-sum(float((a * b).sum()) for a, b in zip(up, down, strict=True)) for up in rise]
        pulls.append(Pull(row.name, position.step, *levels, name, *both))
    return pulls


def weighted_losses(
    row: TableRow, config: Config, main: Prediction, auxiliary: Prediction, y: Tensor, position: Position
) -> dict[str, Tensor]:
    """The summands of Eq. 10 by name, each over both branches. `y`: one-hot annotation [B, 2, Z, Y, X]."""
    settings, nothing = config.losses, y.new_zeros(())
    losses: dict[str, Tensor] = {}
    for term in row.supervised:
        pair = (supervised_loss(main, y, settings, [term]), supervised_loss(auxiliary, y, settings, [term]))
        losses[term] = total_loss(pair, (nothing, nothing), 0.0)
    label = pseudo_label(row.pseudo, main, auxiliary, y, position.mix, settings.tau)
    pair = pseudo_losses(row.pseudo, main, auxiliary, label)
    losses["pseudo"] = total_loss((nothing, nothing), pair, position.weight)
    return losses


def _gradient(value: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]


def pulls_of(row: TableRow, data: Path, config: Config, steps: Sequence[int]) -> list[Pull]:
    """Train a row up to the last of `steps`. Raises KeyboardInterrupt where a signal stopped it before."""
    # With mixed precision only `fabric.backward` gives gradients. Several gradients of one graph rule out compiling.
    config = dataclasses.replace(config, precision="32-true", compile=False, picture_every=0)
    found: list[Pull] = []
    with tempfile.TemporaryDirectory(prefix="lnq-pulls-") as folder, contextlib.suppress(Enough):
        finetune(data, Path(folder), config, objective=row.objective, make_step=measuring(row, steps, found))
        raise KeyboardInterrupt  # a signal ended training before the last measurement
    return found


def table(pulls: Sequence[Pull]) -> list[str]:
    """Lines of Markdown: a row per step, with each loss's pull on the background, then that on annotated nodes."""
    lines = []
    for row in dict.fromkeys(pull.row for pull in pulls):
        own = [pull for pull in pulls if pull.row == row]
        names = list(dict.fromkeys(pull.loss for pull in own))
        lines += [
            f"Row {row}:",
            "",
            "| step | p, background | p, annotated | " + " | ".join(NAMES[n] for n in names) + " |",
        ]
        lines.append("| ---: |" + " ---: |" * (2 + len(names)))
        for step in dict.fromkeys(pull.step for pull in own):
            at = {pull.loss: pull for pull in own if pull.step == step}
            first = at[names[0]]
            cells = [f"{at[n].on_background:+.2g}, {at[n].on_node:+.2g}" for n in names]
            lines.append(f"| {step} | {first.background:.3f} | {first.node:.3f} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def write(folder: Path, command: Sequence[str], pulls: Sequence[Pull]) -> None:
    """Write pulls.csv and pulls.md to a folder. `command` holds the command's arguments."""
    with replace_atomically(folder / "pulls.csv") as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Pull)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(pull) for pull in pulls)
    facts = environment()
    head = [
        "# What each loss does to the background",
        "",
        "```",
        f"python -m training.ablation.pulls {' '.join(command)}",
        "```",
        "",
        f"{facts['device']}, torch {facts['torch']}. How fast a step of gradient descent on each loss alone, weighted "
        "as in Eq. 10, would raise the main branch's log odds of node (p: its probability): the mean over voxels that "
        "are not annotated, then over those that are. Derivatives by the learning rate; at each step the run's batch.",
        "",
    ]
    write_text(folder / "pulls.md", "\n".join([*head, *table(pulls)]))


def check(command: Pulls) -> None:
    """Raise ValueError where a row or a step cannot be measured."""
    possible = [
        name for name, row in ALL_ROWS.items() if row.objective.both and not row.pretrained and row.trust == "none"
    ]
    for name in command.rows:
        if name not in possible:
            raise ValueError(
                f"A row of two branches that starts from chance is one of {', '.join(possible)}, not {name}"
            )
    last = command.config.finetune.epochs * command.config.finetune.iterations - 2
    if not command.steps or min(command.steps) < 0 or max(command.steps) > last:
        raise ValueError(f"Steps must lie between 0 and {last}")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(Pulls, args=words, prog="python -m training.ablation.pulls")

    def work() -> bool:
        check(command)
        command.output.mkdir(parents=True, exist_ok=True)
        pulls: list[Pull] = []
        for name in command.rows:
            pulls += pulls_of(ALL_ROWS[name], command.data, command.config, command.steps)
        write(command.output, words, pulls)
        return True

    try:
        return run_command(work)
    except KeyboardInterrupt:
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
