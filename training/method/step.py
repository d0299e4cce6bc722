"""The training step: one implementation of Eq. 10, whose parts an `Objective` selects (METHOD section 5).

The shipped method, plain cross entropy and every row of the paper's Table 1 are objectives of this step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from training.config import Config, Losses
from training.data.dataset import Sample
from training.method.losses import (
    EQ_5,
    Prediction,
    SupervisedTerm,
    cast_to_integers,
    consensus_loss,
    full_supervised_loss,
    mix_pseudo_label,
    one_hot,
    pseudo_dice_loss,
    ramp_up,
    reconstruction_loss,
    supervised_loss,
    three_states,
    total_loss,
)
from training.method.whole_batch import share_of_batch

PseudoLoss = Literal["none", "dice", "consensus", "integer"]


@dataclass(frozen=True, eq=False)
class Position:
    """How far a run is, what its step draws, and how its samples are annotated.

    `mix` and `weight` are scalars on the device that computes: a step that a GPU has recorded reads new ones of them.
    What is known on the host decides what is computed, so that no step waits for the device.
    """

    epoch: int
    step: int  # over all epochs
    mix: Tensor  # theta of Eq. 6, float64
    weight: Tensor  # of the pseudo-label loss, float32
    full: tuple[bool, ...] = ()  # of each of this process's samples: every node is annotated
    share: float = 0.0  # of the full samples in the batch of all processes


Step = Callable[[nn.Module, Sample, Position], dict[str, Tensor]]
"""(network, this process's samples, position) -> scalar terms; `loss` is minimised, the others are recorded.

All terms are over the whole batch and the same in every process, as `training.method.losses` computes them.
"""


@dataclass(frozen=True)
class Objective:
    """What fine-tuning minimises."""

    name: str  # for the run's record
    supervised: tuple[SupervisedTerm, ...]  # summed, on the annotation
    pseudo: PseudoLoss = "none"  # both branches against their mixed pseudo label; "none": the main branch alone
    trust_full: bool = False  # full cases have Dice + CE as their only loss; else they count as partially annotated

    def __post_init__(self) -> None:
        if self.trust_full and not self.both:
            raise ValueError(f"{self.name}: full cases have a loss of their own beside a pseudo label alone")

    @property
    def both(self) -> bool:
        """Whether the auxiliary branch takes part."""
        return self.pseudo != "none"

    def refuse_unread(self, settings: Losses) -> None:
        """Raise ValueError where a setting of the losses is for another objective."""
        if settings.small_node_mm and "dice_ce" not in self.supervised:
            raise ValueError(f"losses.small_node_mm is for method {KNOWN.name} alone, not for {self.name}")


DBDMP = Objective("dbdmp", EQ_5, "consensus", trust_full=True)
"""The shipped method: row (f) of the paper's Table 1, or (g) when pre-trained, and Dice + CE on full cases."""

WITHOUT_PCE = Objective("dbdmp_without_pce", ("sce", "tversky"), "consensus", trust_full=True)
"""Row (d) of Table 1, and Dice + CE on full cases, for weights that find nodes already.

With partial cross entropy such weights mark more and more, for nothing in it ever speaks of background.
"""

CROSS_ENTROPY = Objective("cross_entropy", ("ce",))
"""The paper's baseline: the main branch alone, which trusts every background voxel."""

KNOWN = Objective("known", ("dice_ce",))
"""Dice + CE of the main branch on what is known.

With `losses.trust` "certain" that is annotated nodes and certain background, for cases of which little is unknown. Else
it is every voxel, for cases with complete labels, or with few in patches that hold copies of annotated nodes.
"""

Method = Literal["dbdmp", "without_pce", "cross_entropy", "known"]
OBJECTIVES: dict[Method, Objective] = {
    "dbdmp": DBDMP, "without_pce": WITHOUT_PCE, "cross_entropy": CROSS_ENTROPY, "known": KNOWN
}  # fmt: skip


def theta(seed: int, step: int) -> float:
    """Random weight in [0, 1) that mixes a step's pseudo label; the same in every process and resumed run."""
    return float(np.random.default_rng([seed, 3, step]).random())


def pseudo_weight(config: Config, epoch: int) -> float:
    """The weight of the pseudo-label loss in an epoch of fine-tuning (Eq. 11)."""
    return ramp_up(epoch, config.losses.final, round(config.losses.ramp * config.finetune.epochs))


def position_at(
    config: Config, epoch: int, step: int, full: Sequence[bool] = (), device: torch.device | None = None
) -> Position:
    """The position of a step, with its numbers on a device. All processes must call it, each with its own samples."""
    return Position(
        epoch,
        step,
        torch.full((), theta(config.seed, step), dtype=torch.float64, device=device),  # no copy that the host waits for
        torch.full((), pseudo_weight(config, epoch), dtype=torch.float32, device=device),
        tuple(full),
        share_of_batch(full, device),
    )


def pseudo_label(
    kind: PseudoLoss, main: Prediction, auxiliary: Prediction, y: Tensor, mix: float | Tensor, tau: float
) -> Tensor:
    """Both branches' mixed pseudo label, with the annotation put in (Eq. 6 and 7), [B, 2, Z, Y, X]."""
    pseudo = mix_pseudo_label(main.p, auxiliary.p, y, mix, tau)
    return cast_to_integers(pseudo) if kind == "integer" else pseudo


def pseudo_losses(kind: PseudoLoss, main: Prediction, auxiliary: Prediction, pseudo: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of the main and of the auxiliary branch against their pseudo label."""
    if kind == "dice":
        return pseudo_dice_loss(main, pseudo), pseudo_dice_loss(auxiliary, pseudo)
    return consensus_loss(main, auxiliary, pseudo), consensus_loss(auxiliary, main, pseudo)


def finetuning_step(objective: Objective, config: Config) -> Step:
    """The training step of an objective.

    With one branch the loss is its supervised loss. With two it is Eq. 10 on the partial cases and, where full cases
    are trusted, Dice + CE of both branches on these, each weighted by its share of the samples. Where the whole batch
    has both kinds, every process computes both parts, even without such samples: the losses' sums run over all.
    """

    def step(model: nn.Module, batch: Sample, position: Position) -> dict[str, Tensor]:
        main, auxiliary = model(batch["image"], both=objective.both)
        y, known = _annotation(batch["label"], config.losses)
        if not objective.both:
            loss = supervised_loss(Prediction(main), y, config.losses, objective.supervised, known, batch.get("weight"))
            return {"loss": loss}
        share = position.share if objective.trust_full else 0.0
        total = main.new_zeros((), dtype=torch.float32)
        terms: dict[str, Tensor] = {}
        if share < 1.0:
            chosen = [True] * len(main) if share == 0.0 else [not full for full in position.full]
            part = [_samples(x, chosen) for x in (main, auxiliary, y)]
            of_part = None if known is None else _samples(known, chosen)
            loss, terms = _partial(objective, part[0], part[1], part[2], of_part, position, config.losses)
            total = total + loss * (1.0 - share)
        if share > 0.0:
            whole = [
                full_supervised_loss(
                    Prediction(_samples(branch, position.full)), _samples(y, position.full), config.losses
                )
                for branch in (main, auxiliary)
            ]
            terms |= {"full_main": whole[0], "full_aux": whole[1]}
            total = total + (whole[0] + whole[1]) / 2.0 * share
        return {"loss": total, **terms}

    return step


def _samples(x: Tensor, chosen: Sequence[bool]) -> Tensor:
    """The chosen samples of [B, ...], in their order. The choice is made on the host."""
    if all(chosen):
        return x
    picked = [sample for sample, wanted in zip(x, chosen, strict=True) if wanted]
    return torch.stack(picked) if picked else x[:0]


def _annotation(label: Tensor, settings: Losses) -> tuple[Tensor, Tensor | None]:
    """The annotation [B, 2, Z, Y, X], and what is known of it; None where all that is not node is background."""
    return three_states(label) if settings.trust == "certain" else (one_hot(label), None)


def _partial(
    objective: Objective,
    main: Tensor,
    auxiliary: Tensor,
    y: Tensor,
    known: Tensor | None,
    position: Position,
    settings: Losses,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 10 of both branches' logits on partial annotations, and its four terms by name."""
    own, other = Prediction(main), Prediction(auxiliary)
    label = pseudo_label(objective.pseudo, own, other, y, position.mix, settings.tau)
    supervised = (
        supervised_loss(own, y, settings, objective.supervised, known),
        supervised_loss(other, y, settings, objective.supervised, known),
    )
    pseudo = pseudo_losses(objective.pseudo, own, other, label)
    terms = {
        "supervised_main": supervised[0],
        "supervised_aux": supervised[1],
        f"{objective.pseudo}_main": pseudo[0],
        f"{objective.pseudo}_aux": pseudo[1],
    }
    return total_loss(supervised, pseudo, position.weight), terms


def pretraining_step(model: nn.Module, batch: Sample, _position: Position) -> dict[str, Tensor]:
    """MSE of both branches against the clean patch (Eq. 1)."""
    main, auxiliary = model(batch["image"])
    terms = {
        "mse_main": reconstruction_loss(main, batch["clean"]),
        "mse_aux": reconstruction_loss(auxiliary, batch["clean"]),
    }
    return {"loss": terms["mse_main"] + terms["mse_aux"], **terms}
