"""The losses of DBDMP for partial instance annotations, as pure functions.

All take logits before softmax [B, C, Z, Y, X] and a one-hot annotation of the same shape; class 0 is background,
class 1 lymph node. A voxel annotated 0 may still be node. Means are over voxels and batch, sums over classes, so that
losses do not depend on the patch size. Half-precision inputs are lifted to float32, float64 stays float64.
In a run of several processes the batch is that of all of them together, so each loss is the same number in each.
"Eq." refers to the equations of the MELBA paper 2024:017.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.engine.distributed import batch_min, over_batch

RCE_FLOOR = 1e-4
"""Stands for log 0 in the reverse cross entropy: a wrong voxel costs at most -log 1e-4 = 9.21."""

SMOOTH = 1e-5
"""Added above and below in Tversky and Dice, so that an empty patch has a defined value."""


def one_hot(label: Tensor) -> Tensor:
    """uint8 [B, Z, Y, X] of 0 and 1 -> float32 [B, 2, Z, Y, X]."""
    node = (label > 0).float()
    return torch.stack([1.0 - node, node], dim=1)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(_exact(logits), dim=1)


def _voxels(x: Tensor) -> Tensor:
    """Voxels of all samples of [B, C, Z, Y, X], as a scalar."""
    return x.new_full((), x.numel() // x.shape[1])


def _per_voxel_mean(x: Tensor) -> Tensor:
    """Sum over classes, mean over batch and voxels, of [B, C, Z, Y, X]."""
    total, voxels = over_batch(x.sum(), _voxels(x))
    return total / voxels


def _cross_entropy(log_p: Tensor, y: Tensor) -> Tensor:
    return -_per_voxel_mean(y * log_p)


def _reverse_cross_entropy(p: Tensor, y: Tensor) -> Tensor:
    return -_per_voxel_mean(p * y.clamp(RCE_FLOOR, 1.0).log())


def _partial_cross_entropy(log_p: Tensor, y: Tensor) -> Tensor:
    log_likelihood, annotated = over_batch((y[:, 1] * log_p[:, 1]).sum(), y[:, 1].sum())
    return -log_likelihood / annotated.clamp(min=1.0)


def _tversky(p: Tensor, y: Tensor, alpha: float) -> Tensor:
    true_positive, predicted, annotated = over_batch((p[:, 1] * y[:, 1]).sum(), p[:, 1].sum(), y[:, 1].sum())
    false_positive, false_negative = predicted - true_positive, annotated - true_positive
    denominator = true_positive + alpha * false_positive + (1.0 - alpha) * false_negative
    return 1.0 - (true_positive + SMOOTH) / (denominator + SMOOTH)


def _supervised(log_p: Tensor, p: Tensor, y: Tensor, gamma: float, alpha: float) -> Tensor:
    symmetric = gamma * _cross_entropy(log_p, y) + _reverse_cross_entropy(p, y)
    return symmetric + _partial_cross_entropy(log_p, y) + _tversky(p, y, alpha)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean of -sum_c y_c log p_c."""
    return _cross_entropy(_log_softmax(logits), _exact(y))


def reverse_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean of -sum_c p_c log y_c, with y clamped to [1e-4, 1]."""
    return _reverse_cross_entropy(_log_softmax(logits).exp(), _exact(y))


def symmetric_cross_entropy(logits: Tensor, y: Tensor, gamma: float = 0.8) -> Tensor:
    """gamma * CE + RCE (Eq. 2): tolerant of the nodes that the annotation calls background."""
    return gamma * cross_entropy(logits, y) + reverse_cross_entropy(logits, y)


def partial_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean of -log p_1 over the voxels annotated 1 (Eq. 3); 0 with gradient 0 where none is annotated."""
    return _partial_cross_entropy(_log_softmax(logits), _exact(y))


def tversky_loss(logits: Tensor, y: Tensor, alpha: float = 0.4) -> Tensor:
    """1 - TP / (TP + alpha FP + (1 - alpha) FN) of class 1, sums over the whole batch.

    Eq. 4 prints the index itself, which, minimised, would do the opposite.
    """
    return _tversky(_log_softmax(logits).exp(), _exact(y), alpha)


def supervised_loss(logits: Tensor, y: Tensor, gamma: float = 0.8, alpha: float = 0.4) -> Tensor:
    """Symmetric CE + partial CE + Tversky (Eq. 5), with one softmax for all of them."""
    log_p = _log_softmax(logits)
    return _supervised(log_p, log_p.exp(), _exact(y), gamma, alpha)


def mix_pseudo_label(p_main: Tensor, p_aux: Tensor, y: Tensor, theta: float | Tensor, tau: float = 0.3) -> Tensor:
    """Soft pseudo label from both branches' probabilities (Eq. 6 and 7), detached.

    Softmax over classes of (theta p_main + (1 - theta) p_aux) / tau; where y_1 = 1 it is (0, 1). tau divides
    probabilities, so with two classes and tau = 0.3 the label stays between 0.034 and 0.966 elsewhere: that is meant.
    """
    p_main, p_aux, y = _exact(p_main.detach()), _exact(p_aux.detach()), _exact(y)
    pseudo = torch.softmax((theta * p_main + (1.0 - theta) * p_aux) / tau, dim=1)
    return torch.where(y[:, 1:2] > 0.5, y, pseudo)


def _consensus(log_self: Tensor, log_other: Tensor, pseudo: Tensor) -> Tensor:
    kl = (log_other.exp() * (log_other - log_self)).sum(dim=1)  # [B, Z, Y, X]
    # A common factor of all weights cancels; this one keeps them from vanishing together.
    weight = torch.exp(batch_min(kl) - kl)
    cross = -(pseudo * log_self).sum(dim=1)
    weighted, weights, divergence, voxels = over_batch(
        (weight * cross).sum(), weight.sum(), kl.sum(), _voxels(log_self)
    )
    return weighted / weights + divergence / voxels


def consensus_loss(logits_self: Tensor, logits_other: Tensor, pseudo: Tensor) -> Tensor:
    """Cross entropy against the soft pseudo label, trusted where the branches agree (Eq. 8 and 9).

    With KL_i = KL(other || self) at voxel i and W_i = exp(-KL_i): sum_i W_i CE_i / sum_i W_i + mean_i KL_i.
    Gradients flow through W, KL and both branches.
    """
    return _consensus(_log_softmax(logits_self), _log_softmax(logits_other), _exact(pseudo))


def ramp_up(epoch: int, final: float = 2.0, length: int = 100) -> float:
    """Weight of the pseudo-label loss: final * exp(-5 (1 - t / (length - 1))^2), t = min(epoch, length - 1) (Eq. 11).

    A length below 2 means no ramp.
    """
    if length < 2:
        return final
    t = min(epoch, length - 1)
    return final * math.exp(-5.0 * (1.0 - t / (length - 1)) ** 2)


def loss_terms(
    logits_main: Tensor,
    logits_aux: Tensor,
    y: Tensor,
    theta: float | Tensor,
    gamma: float = 0.8,
    alpha: float = 0.4,
    tau: float = 0.3,
) -> dict[str, Tensor]:
    """The four terms of Eq. 10 by name: supervised and consensus loss of the main and of the auxiliary branch."""
    log_main, log_aux, y = _log_softmax(logits_main), _log_softmax(logits_aux), _exact(y)
    p_main, p_aux = log_main.exp(), log_aux.exp()
    pseudo = mix_pseudo_label(p_main, p_aux, y, theta, tau)
    return {
        "supervised_main": _supervised(log_main, p_main, y, gamma, alpha),
        "supervised_aux": _supervised(log_aux, p_aux, y, gamma, alpha),
        "consensus_main": _consensus(log_main, log_aux, pseudo),
        "consensus_aux": _consensus(log_aux, log_main, pseudo),
    }


def total_loss(
    logits_main: Tensor,
    logits_aux: Tensor,
    y: Tensor,
    weight: float,
    theta: float | Tensor,
    gamma: float = 0.8,
    alpha: float = 0.4,
    tau: float = 0.3,
) -> Tensor:
    """A quarter of supervised(main) + supervised(aux) + weight * [consensus(main, aux) + consensus(aux, main)].

    Eq. 10; `weight` is `ramp_up(epoch, lambda, length)`, `theta` one uniform number per iteration. The quarter is the
    authors', and what the learning rate 0.01 and the clipping at 12 were tuned for.
    """
    return combine_terms(loss_terms(logits_main, logits_aux, y, theta, gamma, alpha, tau), weight)


def combine_terms(terms: dict[str, Tensor], weight: float) -> Tensor:
    """Eq. 10 from the terms of `loss_terms`."""
    supervised = terms["supervised_main"] + terms["supervised_aux"]
    consensus = terms["consensus_main"] + terms["consensus_aux"]
    return 0.25 * (supervised + weight * consensus)


def full_supervised_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Dice + CE against a complete annotation, sample by sample: its background is trusted.

    1 - (2 TP + s) / (2 TP + FP + FN + s) of class 1, s = 1e-5, plus the cross entropy; mean over samples.
    """
    log_p, y = _log_softmax(logits), _exact(y)
    p1, y1 = log_p[:, 1].exp().flatten(1), y[:, 1].flatten(1)
    overlap = 2.0 * (p1 * y1).sum(dim=1)
    dice = (overlap + SMOOTH) / (p1.sum(dim=1) + y1.sum(dim=1) + SMOOTH)
    missed, samples = over_batch((1.0 - dice).sum(), dice.new_full((), len(dice)))
    return _cross_entropy(log_p, y) + missed / samples


def reconstruction_loss(output: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error of one branch against the clean patch (Eq. 1), mean over voxels and batch."""
    return _per_voxel_mean((_exact(output) - _exact(clean)).square())
