"""Rows of the paper's Table 1 and values of its Fig. 3 as data, and the training step that a row stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.config import Config, Losses
from training.data.dataset import Sample
from training.engine.loop import Position, Step
from training.finetune import one_hot, theta
from training.method.losses import (
    SMOOTH,
    consensus_loss,
    cross_entropy,
    mix_pseudo_label,
    partial_cross_entropy,
    ramp_up,
    symmetric_cross_entropy,
    tversky_loss,
)

Term = Literal["ce", "sce", "pce", "tversky"]
Pseudo = Literal["none", "dice", "consensus", "integer"]


@dataclass(frozen=True)
class Row:
    """One row of Table 1: what is trained, with which losses, and what the paper found on its test set."""

    name: str
    dual: bool  # both decoders; without, the main one alone and no pseudo label
    supervised: tuple[Term, ...]  # summed, on the partial annotation
    pseudo: Pseudo  # loss against the mixed pseudo label
    pretrained: bool  # starts from Model Genesis
    paper_dice: float  # mean and deviation over cases, in %
    paper_dice_spread: float
    paper_assd_mm: float
    paper_assd_spread_mm: float

    def __post_init__(self) -> None:
        if self.dual == (self.pseudo == "none"):
            raise ValueError(f"Row {self.name}: a dual branch and a pseudo label go together")


ROWS = {
    row.name: row
    for row in (
        Row("baseline", False, ("ce",), "none", False, 19.04, 19.40, 18.23, 10.10),
        Row("a", True, ("ce",), "dice", False, 23.22, 17.50, 25.41, 15.33),
        Row("b", True, ("ce", "tversky"), "dice", False, 45.10, 21.58, 13.54, 12.05),
        Row("c", True, ("ce", "tversky"), "consensus", False, 40.26, 22.39, 15.19, 10.94),
        Row("d", True, ("sce", "tversky"), "consensus", False, 39.34, 22.58, 16.54, 15.75),
        Row("e", True, ("pce", "tversky"), "consensus", False, 57.36, 17.09, 9.85, 13.25),
        Row("f", True, ("pce", "sce", "tversky"), "consensus", False, 56.10, 17.58, 10.28, 12.75),
        Row("g", True, ("pce", "sce", "tversky"), "consensus", True, 55.44, 18.98, 9.35, 7.69),
    )
}

EXTRA_ROW = dataclasses.replace(ROWS["e"], name="e-integer", pseudo="integer")
"""Row (e) with the pseudo label cast to integers, as in the authors' published loss: every voxel that is not annotated
becomes background. Not of the method; it shows what the paper's row (e) has its background from."""

ALL_ROWS = ROWS | {EXTRA_ROW.name: EXTRA_ROW}

SWEEPS: dict[str, tuple[float, ...]] = {
    "tau": (0.1, 0.2, 0.3, 0.4),
    "gamma": (0.4, 0.6, 0.8, 1.0, 1.2),  # the paper does not print these
    "alpha": (0.3, 0.4, 0.5, 0.6),
    "lambda": (1.4, 1.6, 1.8, 2.0, 2.2),
}
SWEPT_ROW = "f"  # the whole method from chance


def with_parameter(losses: Losses, parameter: str, value: float) -> Losses:
    """The losses with one parameter of Fig. 3 changed. Raises ValueError for a name that it does not have."""
    if parameter not in SWEEPS:
        raise ValueError(f"Parameter must be one of {', '.join(SWEEPS)}, not {parameter!r}")
    return dataclasses.replace(losses, **{"final" if parameter == "lambda" else parameter: value})


def parameter_of(losses: Losses, parameter: str) -> float:
    """What `with_parameter` sets."""
    value: float = dataclasses.asdict(losses)["final" if parameter == "lambda" else parameter]
    return value


def supervised_sum(logits: Tensor, y: Tensor, terms: Sequence[Term], settings: Losses) -> Tensor:
    """Sum of the chosen losses on the partial annotation `y`; logits and one-hot y [B, C, Z, Y, X]."""
    values = []
    if "ce" in terms:
        values.append(cross_entropy(logits, y))
    if "sce" in terms:
        values.append(symmetric_cross_entropy(logits, y, settings.gamma))
    if "pce" in terms:
        values.append(partial_cross_entropy(logits, y))
    if "tversky" in terms:
        values.append(tversky_loss(logits, y, settings.alpha))
    return torch.stack(values).sum()


def pseudo_dice_loss(logits: Tensor, pseudo: Tensor) -> Tensor:
    """Dice loss of class 1 against the arg max of a soft pseudo label, as in Luo et al. 2022.

    1 - (2 TP + s) / (sum p_1 + sum h + s), sums over the whole batch, s = 1e-5, with h = 1 where the pseudo label's
    class 1 is the larger; both [B, C, Z, Y, X]. No gradient goes into the pseudo label.
    """
    p = _probabilities(logits)[:, 1]
    hard = (pseudo[:, 1] > pseudo[:, 0]).to(p.dtype)
    return 1.0 - (2.0 * (p * hard).sum() + SMOOTH) / (p.sum() + hard.sum() + SMOOTH)


def _probabilities(logits: Tensor) -> Tensor:
    """Softmax over classes in float32, float64 stays float64."""
    return (logits if logits.dtype == torch.float64 else logits.float()).softmax(dim=1)


def pseudo_pair(
    kind: Pseudo, main: Tensor, auxiliary: Tensor, y: Tensor, mix: float, tau: float
) -> tuple[Tensor, Tensor]:
    """Loss of the main and of the auxiliary branch against their mixed, filled-in pseudo label (Eq. 6 to 9)."""
    pseudo = mix_pseudo_label(_probabilities(main), _probabilities(auxiliary), y, mix, tau)
    if kind == "integer":
        pseudo = torch.stack([pseudo[:, 1] < 1.0, pseudo[:, 1] >= 1.0], dim=1).to(pseudo.dtype)
    if kind == "dice":
        return pseudo_dice_loss(main, pseudo), pseudo_dice_loss(auxiliary, pseudo)
    return consensus_loss(main, auxiliary, pseudo), consensus_loss(auxiliary, main, pseudo)


def row_step(row: Row, config: Config) -> Step:
    """The training step of a row on partial annotations.

    Two branches: a quarter of the supervised losses of both plus the ramp times the pseudo-label losses of both, as in
    Eq. 10; row (f) is the full method. One branch: its supervised loss.
    """
    settings, ramp_length = config.losses, round(config.losses.ramp * config.finetune.epochs)

    def step(model: nn.Module, batch: Sample, position: Position) -> dict[str, Tensor]:
        y = one_hot(batch["label"])
        main, auxiliary = model(batch["image"], both=row.dual)
        if not row.dual:
            return {"loss": supervised_sum(main, y, row.supervised, settings)}
        mix = theta(config.seed, position.step)
        supervised = [supervised_sum(branch, y, row.supervised, settings) for branch in (main, auxiliary)]
        pseudo = pseudo_pair(row.pseudo, main, auxiliary, y, mix, settings.tau)
        weight = ramp_up(position.epoch, settings.final, ramp_length)
        terms = {
            "supervised_main": supervised[0],
            "supervised_aux": supervised[1],
            "pseudo_main": pseudo[0],
            "pseudo_aux": pseudo[1],
        }
        loss = 0.25 * (supervised[0] + supervised[1] + weight * (pseudo[0] + pseudo[1]))
        return {"loss": loss, **terms}

    return step
