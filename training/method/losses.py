"""The losses of DBDMP for partial instance annotations, as pure functions.

A branch's output is a `Prediction`. The annotation `y` is one-hot [B, C, Z, Y, X]; class 0 is background, class 1 lymph
node. A voxel annotated 0 may still be node. Where `known` (bool [B, Z, Y, X]) is given, `y` is 0 in both classes of
what is unknown, and only the rest counts. Means are over voxels and batch, sums over classes, so losses do not depend
on the patch size. With several processes the batch is that of all processes together, so each loss is the same number
in all.
"Eq." refers to the equations of the MELBA paper 2024:017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import Losses
from training.data.dataset import BACKGROUND, NODE
from training.method.whole_batch import batch_min, over_batch

SupervisedTerm = Literal["ce", "sce", "pce", "tversky", "dice_ce"]
EQ_5: tuple[SupervisedTerm, ...] = ("pce", "sce", "tversky")
"""The terms of the paper's supervised loss."""

QUARTER = 0.25
"""The authors' factor of Eq. 10. The learning rate 0.01 and the clipping at 12 were tuned for it."""

RCE_FLOOR = 1e-4
"""Replaces 0 in the logarithm of the reverse cross entropy: a wrong voxel costs at most -log 1e-4 = 9.21."""

SMOOTH = 1e-5
"""Added to numerator and denominator of Tversky and Dice, so that an empty patch has a defined value."""


def one_hot(label: Tensor) -> Tensor:
    """One-hot annotation, float32 [B, 2, Z, Y, X], of a label [B, Z, Y, X], in which values above 0 are node."""
    node = (label > 0).float()
    return torch.stack([1.0 - node, node], dim=1)


def three_states(label: Tensor) -> tuple[Tensor, Tensor]:
    """Annotation, float32 [B, 2, Z, Y, X], and what is known, bool [B, Z, Y, X], of a label [B, Z, Y, X].

    The label is `NODE`, `BACKGROUND` or 0, which is unknown, as in `training.data.dataset`.
    """
    y = torch.stack([label == BACKGROUND, label == NODE], dim=1).float()
    return y, label > 0


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class Prediction:
    """One branch's output on a batch. All its losses share one softmax.

    `logits`: before softmax, [B, C, Z, Y, X]. Half precision becomes float32; float64 stays.
    """

    def __init__(self, logits: Tensor) -> None:
        self.log_p = F.log_softmax(_exact(logits), dim=1)  # [B, C, Z, Y, X]

    @cached_property
    def p(self) -> Tensor:
        """Probability of each class, [B, C, Z, Y, X]."""
        return self.log_p.exp()


def _voxels(x: Tensor) -> Tensor:
    """Number of voxels in all samples of [B, C, Z, Y, X], as a scalar."""
    return x.new_full((), x.numel() // x.shape[1])


def _per_voxel_mean(x: Tensor, known: Tensor | None = None) -> Tensor:
    """Sum over classes, mean over batch and (known) voxels, of [B, C, Z, Y, X]; 0 where nothing is known."""
    if known is None:
        total, voxels = over_batch(x.sum(), _voxels(x))
        return total / voxels
    total, voxels = over_batch((x * known[:, None]).sum(), known.sum(dtype=x.dtype))
    return total / voxels.clamp(min=1.0)


def cross_entropy(prediction: Prediction, y: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean of -sum_c y_c log p_c."""
    return -_per_voxel_mean(_exact(y) * prediction.log_p, known)


def reverse_cross_entropy(prediction: Prediction, y: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean of -sum_c p_c log y_c, with y clamped to [1e-4, 1]."""
    return -_per_voxel_mean(prediction.p * _exact(y).clamp(RCE_FLOOR, 1.0).log(), known)


def symmetric_cross_entropy(
    prediction: Prediction, y: Tensor, gamma: float = 0.8, known: Tensor | None = None
) -> Tensor:
    """gamma * CE + RCE (Eq. 2): tolerant of the nodes that the annotation calls background."""
    return gamma * cross_entropy(prediction, y, known) + reverse_cross_entropy(prediction, y, known)


def partial_cross_entropy(prediction: Prediction, y: Tensor) -> Tensor:
    """Mean of -log p_1 over the voxels annotated 1 (Eq. 3); 0 with gradient 0 where none is annotated."""
    y1 = _exact(y)[:, 1]
    log_likelihood, annotated = over_batch((y1 * prediction.log_p[:, 1]).sum(), y1.sum())
    return -log_likelihood / annotated.clamp(min=1.0)


def tversky_loss(prediction: Prediction, y: Tensor, alpha: float = 0.4, known: Tensor | None = None) -> Tensor:
    """1 - TP / (TP + alpha FP + (1 - alpha) FN) of class 1, sums over the whole batch.

    Eq. 4 of the paper prints the Tversky index itself; minimising that would do the opposite.
    """
    p, y = prediction.p, _exact(y)
    counted = p[:, 1] if known is None else p[:, 1] * known
    true_positive, predicted, annotated = over_batch((p[:, 1] * y[:, 1]).sum(), counted.sum(), y[:, 1].sum())
    false_positive, false_negative = predicted - true_positive, annotated - true_positive
    denominator = true_positive + alpha * false_positive + (1.0 - alpha) * false_negative
    return 1.0 - (true_positive + SMOOTH) / (denominator + SMOOTH)


_TERMS: dict[SupervisedTerm, Callable[[Prediction, Tensor, Losses, Tensor | None, Tensor | None], Tensor]] = {
    "ce": lambda prediction, y, settings, known, weight: cross_entropy(prediction, y, known),
    "sce": lambda prediction, y, settings, known, weight: symmetric_cross_entropy(prediction, y, settings.gamma, known),
    "pce": lambda prediction, y, settings, known, weight: partial_cross_entropy(prediction, y),
    "tversky": lambda prediction, y, settings, known, weight: tversky_loss(prediction, y, settings.alpha, known),
    "dice_ce": lambda prediction, y, settings, known, weight: full_supervised_loss(
        prediction, y, settings, known, weight
    ),
}


def supervised_loss(
    prediction: Prediction,
    y: Tensor,
    settings: Losses,
    terms: Sequence[SupervisedTerm] = EQ_5,
    known: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Sum of some losses on the partial annotation: symmetric CE + partial CE + Tversky unless told otherwise (Eq. 5).

    `weight`, [B, Z, Y, X], is for Dice + CE alone. The losses are added in a fixed order, not that of `terms`: the last
    bit of a sum of floats depends on the order.
    """
    first, *others = [loss(prediction, y, settings, known, weight) for name, loss in _TERMS.items() if name in terms]
    return sum(others, start=first)


def mix_pseudo_label(p_main: Tensor, p_aux: Tensor, y: Tensor, theta: float | Tensor, tau: float = 0.3) -> Tensor:
    """Soft pseudo label from both branches' probabilities (Eq. 6 and 7), detached.

    Softmax over classes of (theta p_main + (1 - theta) p_aux) / tau; where y_1 = 1 it is (0, 1). tau divides
    probabilities, so with two classes and tau = 0.3 the label stays between 0.034 and 0.966 elsewhere: that is meant.
    """
    p_main, p_aux, y = _exact(p_main.detach()), _exact(p_aux.detach()), _exact(y)
    pseudo = torch.softmax((theta * p_main + (1.0 - theta) * p_aux) / tau, dim=1)
    return torch.where(y[:, 1:2] > 0.5, y, pseudo)


def cast_to_integers(pseudo: Tensor) -> Tensor:
    """The pseudo label as the authors' published loss casts it: background wherever class 1 is below 1."""
    return torch.stack([pseudo[:, 1] < 1.0, pseudo[:, 1] >= 1.0], dim=1).to(pseudo.dtype)


def consensus_loss(own: Prediction, other: Prediction, pseudo: Tensor) -> Tensor:
    """Cross entropy against the soft pseudo label, trusted where the branches agree (Eq. 8 and 9).

    With KL_i = KL(other || own) at voxel i and W_i = exp(-KL_i): sum_i W_i CE_i / sum_i W_i + mean_i KL_i.
    Gradients flow through W, KL and both branches.
    """
    log_own, log_other = own.log_p, other.log_p
    kl = (log_other.exp() * (log_other - log_own)).sum(dim=1)  # [B, Z, Y, X]
    # A common factor of all weights cancels. This factor keeps them from all becoming 0.
    weight = torch.exp(batch_min(kl) - kl)
    cross = -(_exact(pseudo) * log_own).sum(dim=1)
    weighted, weights, divergence, voxels = over_batch((weight * cross).sum(), weight.sum(), kl.sum(), _voxels(log_own))
    return weighted / weights + divergence / voxels


def pseudo_dice_loss(prediction: Prediction, pseudo: Tensor) -> Tensor:
    """Dice loss of class 1 against the arg max of a soft pseudo label, as in Luo et al. 2022.

    1 - (2 TP + s) / (sum p_1 + sum h + s), sums over the whole batch, s = 1e-5, with h = 1 where the pseudo label's
    class 1 is the larger. No gradient goes into the pseudo label.
    """
    p = prediction.p[:, 1]
    hard = (pseudo[:, 1] > pseudo[:, 0]).to(p.dtype)
    true_positive, predicted, marked = over_batch((p * hard).sum(), p.sum(), hard.sum())
    return 1.0 - (2.0 * true_positive + SMOOTH) / (predicted + marked + SMOOTH)


def ramp_up(epoch: int, final: float = 2.0, length: int = 100) -> float:
    """Weight of the pseudo-label loss: final * exp(-5 (1 - t / (length - 1))^2), t = min(epoch, length - 1) (Eq. 11).

    A length below 2 means no ramp.
    """
    if length < 2:
        return final
    t = min(epoch, length - 1)
    return final * math.exp(-5.0 * (1.0 - t / (length - 1)) ** 2)


def total_loss(supervised: tuple[Tensor, Tensor], pseudo: tuple[Tensor, Tensor], weight: float | Tensor) -> Tensor:
    """A quarter of supervised(main) + supervised(aux) + weight * [pseudo(main) + pseudo(aux)] (Eq. 10).

    `weight` is `ramp_up(epoch, lambda, length)`.
    """
    return QUARTER * (supervised[0] + supervised[1] + weight * (pseudo[0] + pseudo[1]))


def full_supervised_loss(
    prediction: Prediction, y: Tensor, settings: Losses, known: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Dice + CE against an annotation whose background is trusted, sample by sample.

    1 - (2 TP + s) / (2 TP + FP + FN + s) of class 1, s = 1e-5, plus the cross entropy; mean over samples. With
    `batch_dice` TP, FP and FN are sums over the batch. With `hardest` below 1 a sample's cross entropy is the mean over
    that part of its voxels, those where it is largest (at least one). Of unknown voxels neither speaks. A voxel of
    weight w, [B, Z, Y, X], has w times the cross entropy and counts in TP, FP and FN as w voxels do.
    """
    y = _exact(y) if weight is None else _exact(y) * weight[:, None]
    p1, y1 = prediction.log_p[:, 1].exp(), y[:, 1].flatten(1)
    p1 = (p1 if known is None else p1 * known).flatten(1)
    counted = p1 if weight is None else p1 * weight.flatten(1)
    overlap, marked = 2.0 * (p1 * y1).sum(dim=1), counted.sum(dim=1) + y1.sum(dim=1)
    if settings.batch_dice:
        both, all_marked = over_batch(overlap.sum(), marked.sum())
        lost = 1.0 - (both + SMOOTH) / (all_marked + SMOOTH)
    else:
        dice = (overlap + SMOOTH) / (marked + SMOOTH)
        missed, samples = over_batch((1.0 - dice).sum(), dice.new_full((), len(dice)))
        lost = missed / samples
    return _hardest_cross_entropy(prediction, y, settings.hardest, known) + lost


def _hardest_cross_entropy(prediction: Prediction, y: Tensor, part: float, known: Tensor | None) -> Tensor:
    """The cross entropy of a part of each sample's voxels, those where it is largest; mean over samples."""
    if part >= 1.0:
        return cross_entropy(prediction, y, known)
    each = -(_exact(y) * prediction.log_p).sum(dim=1).flatten(1)  # 0 where unknown
    largest = each.topk(max(1, round(part * each.shape[1])), dim=1, sorted=False).values.mean(dim=1)
    total, samples = over_batch(largest.sum(), largest.new_full((), len(largest)))
    return total / samples


def reconstruction_loss(output: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error of one branch against the clean patch (Eq. 1), mean over voxels and batch."""
    return _per_voxel_mean((_exact(output) - _exact(clean)).square())
