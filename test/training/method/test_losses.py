"""Losses against numbers worked out by hand: two voxels, logits chosen so that the probabilities are simple."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.config import Losses
from training.method import losses
from training.method.losses import Prediction

# One sample, two voxels along x. p(node) is 0.2 at the first voxel, which is annotated background, and 0.75 at the
# second, which is annotated node.
P_NODE = (0.2, 0.75)


def logits_of(*p_node: float) -> Tensor:
    """Logits [1, 2, 1, 1, X] whose softmax has these probabilities of node."""
    p = torch.tensor(p_node, dtype=torch.float64)
    return torch.stack([(1 - p).log(), p.log()])[None, :, None, None, :] + 3.0  # a shift changes nothing


def annotation(*node: int) -> Tensor:
    """One-hot [1, 2, 1, 1, X]."""
    y = torch.tensor(node, dtype=torch.float64)
    return torch.stack([1 - y, y])[None, :, None, None, :]


LOGITS, Y = logits_of(*P_NODE), annotation(0, 1)
PREDICTION = Prediction(LOGITS)
CE = -(math.log(0.8) + math.log(0.75)) / 2  # 0.2554
RCE = (0.2 + 0.25) / 2 * -math.log(1e-4)  # what is given to the wrong class, times 9.2103
PCE = -math.log(0.75)
TVERSKY = 1 - (0.75 + 1e-5) / (0.75 + 0.4 * 0.2 + 0.6 * 0.25 + 1e-5)  # TP 0.75, FP 0.2, FN 0.25


def test_cross_entropy_is_the_mean_over_voxels() -> None:
    assert losses.cross_entropy(PREDICTION, Y).item() == pytest.approx(CE, abs=1e-12)


def test_reverse_cross_entropy_replaces_log_0_by_log_1e_4() -> None:
    assert losses.reverse_cross_entropy(PREDICTION, Y).item() == pytest.approx(RCE, abs=1e-9)


def test_symmetric_cross_entropy_weighs_only_the_forward_part() -> None:
    assert losses.symmetric_cross_entropy(PREDICTION, Y, gamma=0.8).item() == pytest.approx(0.8 * CE + RCE, abs=1e-9)


def test_partial_cross_entropy_looks_at_annotated_voxels_alone() -> None:
    assert losses.partial_cross_entropy(PREDICTION, Y).item() == pytest.approx(PCE, abs=1e-12)


def test_partial_cross_entropy_is_0_with_gradient_0_without_annotation() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = losses.partial_cross_entropy(Prediction(logits), annotation(0, 0))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None and not logits.grad.any()


def test_tversky_weighs_false_positives_with_alpha() -> None:
    assert losses.tversky_loss(PREDICTION, Y, alpha=0.4).item() == pytest.approx(TVERSKY, abs=1e-9)
    only_false_positives = losses.tversky_loss(Prediction(logits_of(0.5, 1 - 1e-12)), Y, alpha=0.4).item()
    assert only_false_positives == pytest.approx(1 - 1 / 1.2, abs=1e-5)


def test_tversky_sums_over_the_batch_before_it_divides() -> None:
    both = losses.tversky_loss(Prediction(torch.cat([LOGITS, LOGITS])), torch.cat([Y, annotation(0, 0)])).item()
    # TP 0.75, FP 0.2 + 0.2 + 0.75, FN 0.25
    assert both == pytest.approx(1 - (0.75 + 1e-5) / (0.75 + 0.4 * 1.15 + 0.6 * 0.25 + 1e-5), abs=1e-9)


def test_supervised_loss_is_the_sum_of_its_parts() -> None:
    wanted = 0.8 * CE + RCE + PCE + TVERSKY
    assert losses.supervised_loss(PREDICTION, Y, Losses(gamma=0.8, alpha=0.4)).item() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("terms", "wanted"),
    [
        (("ce",), CE),
        (("ce", "tversky"), CE + TVERSKY),
        (("sce", "tversky"), 0.8 * CE + RCE + TVERSKY),
        (("pce", "tversky"), PCE + TVERSKY),
        (("tversky", "sce", "pce"), 0.8 * CE + RCE + PCE + TVERSKY),
    ],
)
def test_supervised_loss_sums_the_chosen_terms(terms: tuple[losses.SupervisedTerm, ...], wanted: float) -> None:
    assert losses.supervised_loss(PREDICTION, Y, Losses(), terms).item() == pytest.approx(wanted, abs=1e-9)


def test_supervised_loss_has_the_parameters_of_its_settings() -> None:
    tversky = 1 - (0.75 + 1e-5) / (0.75 + 0.3 * 0.2 + 0.7 * 0.25 + 1e-5)
    value = losses.supervised_loss(PREDICTION, Y, Losses(gamma=1.2, alpha=0.3)).item()
    assert value == pytest.approx(1.2 * CE + RCE + PCE + tversky, abs=1e-9)


def test_supervised_loss_does_not_depend_on_the_order_of_its_terms() -> None:
    torch.manual_seed(0)
    prediction, y = Prediction(torch.randn(1, 2, 3, 4, 5)), losses.one_hot(torch.randint(2, (1, 3, 4, 5)))
    values = [losses.supervised_loss(prediction, y, Losses(), order) for order in (losses.EQ_5, losses.EQ_5[::-1])]
    assert torch.equal(*values)


def test_pseudo_dice_is_against_the_larger_class() -> None:
    pseudo = torch.stack([torch.tensor([0.6, 0.4, 0.5]), torch.tensor([0.4, 0.6, 0.5])])[None, :, None, None, :]
    value = losses.pseudo_dice_loss(Prediction(logits_of(0.2, 0.75, 0.1)), pseudo).item()
    # node at the second voxel alone: a tie is background
    assert value == pytest.approx(1 - (2 * 0.75 + 1e-5) / (1.05 + 1 + 1e-5), abs=1e-9)


def test_integer_label_is_node_where_it_is_sure_alone() -> None:
    pseudo = torch.tensor([[0.034, 0.0, 0.6], [0.966, 1.0, 0.4]])[None, :, None, None, :]
    assert losses.cast_to_integers(pseudo)[0, :, 0, 0].tolist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


def test_total_loss_is_a_quarter_of_the_weighted_sum() -> None:
    one, two, three, four = (torch.tensor(v, dtype=torch.float64) for v in (1.0, 2.0, 3.0, 4.0))
    assert losses.total_loss((one, two), (three, four), 1.5).item() == 0.25 * (3 + 1.5 * 7)


def test_all_losses_of_a_branch_share_one_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    softmax = torch.nn.functional.log_softmax
    monkeypatch.setattr(torch.nn.functional, "log_softmax", lambda *a, **b: calls.append(1) or softmax(*a, **b))
    prediction = Prediction(LOGITS)
    losses.supervised_loss(prediction, Y, Losses())
    losses.consensus_loss(prediction, PREDICTION, Y)
    assert calls == [1] and prediction.p is prediction.p


def test_pseudo_label_divides_probabilities_by_tau_and_keeps_the_annotation() -> None:
    p_main = torch.tensor([[0.8, 0.25], [0.2, 0.75]], dtype=torch.float64)[None, :, None, None, :]
    p_aux = torch.tensor([[0.6, 0.5], [0.4, 0.5]], dtype=torch.float64)[None, :, None, None, :]
    pseudo = losses.mix_pseudo_label(p_main, p_aux, Y, theta=0.25, tau=0.3)
    mixed = 0.25 * 0.2 + 0.75 * 0.4  # 0.35 of node at the first voxel
    wanted = 1 / (1 + math.exp((1 - 2 * mixed) / 0.3))
    assert pseudo[0, 1, 0, 0].tolist() == pytest.approx([wanted, 1.0], abs=1e-12)
    assert pseudo[0, 0, 0, 0].tolist() == pytest.approx([1 - wanted, 0.0], abs=1e-12)


def test_pseudo_label_without_annotation_stays_between_its_bounds() -> None:
    sure = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[None, :, None, None, :]
    pseudo = losses.mix_pseudo_label(sure, sure, annotation(0, 0), theta=0.5, tau=0.3)
    assert pseudo[0, 1, 0, 0].tolist() == pytest.approx([0.0344, 0.9656], abs=1e-4)


def test_pseudo_label_has_no_gradient() -> None:
    p = torch.softmax(LOGITS.clone().requires_grad_(), dim=1)
    assert not losses.mix_pseudo_label(p, p, Y, theta=0.5).requires_grad


def test_consensus_weighs_voxels_by_agreement() -> None:
    q_node = (0.2, 0.5)  # of the other branch: it agrees at the first voxel only
    pseudo = torch.tensor([[0.7, 0.1], [0.3, 0.9]], dtype=torch.float64)[None, :, None, None, :]
    kl = (0.0, 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    ce = (-0.7 * math.log(0.8) - 0.3 * math.log(0.2), -0.1 * math.log(0.25) - 0.9 * math.log(0.75))
    w = [math.exp(-k) for k in kl]
    wanted = (w[0] * ce[0] + w[1] * ce[1]) / (w[0] + w[1]) + sum(kl) / 2
    assert losses.consensus_loss(PREDICTION, Prediction(logits_of(*q_node)), pseudo).item() == pytest.approx(
        wanted, abs=1e-9
    )


def test_consensus_stays_finite_where_the_branches_contradict_everywhere() -> None:
    one, other = torch.zeros(1, 2, 1, 1, 3), torch.zeros(1, 2, 1, 1, 3)
    one[:, 0], other[:, 1] = 300.0, 300.0  # KL 300: exp(-300) is 0 in float32
    one.requires_grad_()
    loss = losses.consensus_loss(Prediction(one), Prediction(other), annotation(1, 1, 1))
    loss.backward()
    assert torch.isfinite(loss) and one.grad is not None and torch.isfinite(one.grad).all()


def test_ramp_up_follows_the_gaussian_and_then_stays() -> None:
    assert losses.ramp_up(0, final=2.0, length=101) == pytest.approx(2 * math.exp(-5))
    assert losses.ramp_up(50, final=2.0, length=101) == pytest.approx(2 * math.exp(-1.25))
    assert losses.ramp_up(100, final=2.0, length=101) == losses.ramp_up(5000, final=2.0, length=101) == 2.0
    assert losses.ramp_up(0, final=1.4, length=1) == 1.4


def test_full_supervised_loss_is_dice_and_ce_sample_by_sample() -> None:
    batch, y = Prediction(torch.cat([LOGITS, logits_of(0.5, 0.5)])), torch.cat([Y, annotation(0, 0)])
    dice_first = (2 * 0.75 + 1e-5) / (0.95 + 1 + 1e-5)
    dice_second = 1e-5 / (1.0 + 1e-5)
    wanted = (CE + math.log(2)) / 2 + (1 - dice_first + 1 - dice_second) / 2
    assert losses.full_supervised_loss(batch, y, Losses()).item() == pytest.approx(wanted, abs=1e-9)


def test_full_supervised_loss_with_one_dice_of_the_batch() -> None:
    batch, y = Prediction(torch.cat([LOGITS, logits_of(0.5, 0.5)])), torch.cat([Y, annotation(0, 0)])
    dice = (2 * 0.75 + 1e-5) / (0.95 + 1 + 1.0 + 1e-5)  # the second sample's marks count against the first one's node
    wanted = (CE + math.log(2)) / 2 + 1 - dice
    assert losses.full_supervised_loss(batch, y, Losses(batch_dice=True)).item() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("part", "voxels"), [(1.0, 4), (0.75, 3), (0.5, 2), (0.3, 1), (0.01, 1)])
def test_full_supervised_loss_with_the_hardest_voxels(part: float, voxels: int) -> None:
    batch = Prediction(torch.cat([logits_of(0.1, 0.4, 0.2, 0.9), logits_of(0.3, 0.3, 0.6, 0.8)]))
    y = torch.cat([annotation(0, 0, 0, 1), annotation(0, 0, 0, 0)])
    each = [[-math.log(p) for p in (0.6, 0.8, 0.9, 0.9)], [-math.log(p) for p in (0.2, 0.4, 0.7, 0.7)]]  # descending
    wanted = sum(sum(losses_[:voxels]) / voxels for losses_ in each) / 2
    dice = losses.full_supervised_loss(batch, y, Losses()).item() - losses.cross_entropy(batch, y).item()
    assert losses.full_supervised_loss(batch, y, Losses(hardest=part)).item() == pytest.approx(wanted + dice, abs=1e-9)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_a_voxel_of_a_weight_counts_as_so_many(batch_dice: bool) -> None:
    """Two voxels, background of p(node) 0.2 and a node of 0.75 that counts three times."""
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 1, 2)
    dice = (2 * 3 * 0.75 + 1e-5) / (0.2 + 3 * 0.75 + 3 + 1e-5)
    for part, cross in ((1.0, -(math.log(0.8) + 3 * math.log(0.75)) / 2), (0.5, -3 * math.log(0.75))):
        settings = Losses(batch_dice=batch_dice, hardest=part)
        found = losses.supervised_loss(PREDICTION, Y, settings, ["dice_ce"], weight=weight).item()
        assert found == pytest.approx(cross + 1 - dice, abs=1e-9)


def test_of_a_weighed_voxel_that_is_unknown_nothing_counts() -> None:
    y, known = losses.three_states(THREE)
    seen, weight = Prediction(logits_of(*P_NODE, 0.9)), torch.tensor([1.0, 3.0, 16.0]).view(1, 1, 1, 3)
    found = losses.full_supervised_loss(seen, y, Losses(), known, weight).item()
    dice = 2 * 3 * 0.75 / (0.2 + 3 * 0.75 + 3)
    assert found == pytest.approx(-(math.log(0.8) + 3 * math.log(0.75)) / 2 + 1 - dice, abs=1e-5)


def test_reconstruction_loss_is_the_mean_squared_error() -> None:
    output, clean = (torch.tensor(v).reshape(2, 1, 1, 1, 2) for v in ([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 3.0, 5.0]))
    assert losses.reconstruction_loss(output, clean).item() == pytest.approx((4 + 1) / 4)


def test_one_hot_has_background_first() -> None:
    assert losses.one_hot(torch.tensor([[[[0, 1]]]], dtype=torch.uint8)).flatten().tolist() == [1, 0, 0, 1]


ALL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda x, y: losses.cross_entropy(Prediction(x), y),
    "reverse": lambda x, y: losses.reverse_cross_entropy(Prediction(x), y),
    "symmetric": lambda x, y: losses.symmetric_cross_entropy(Prediction(x), y),
    "partial": lambda x, y: losses.partial_cross_entropy(Prediction(x), y),
    "tversky": lambda x, y: losses.tversky_loss(Prediction(x), y),
    "supervised": lambda x, y: losses.supervised_loss(Prediction(x), y, Losses()),
    "full": lambda x, y: losses.full_supervised_loss(Prediction(x), y, Losses()),
    "full, batch": lambda x, y: losses.full_supervised_loss(Prediction(x), y, Losses(batch_dice=True, hardest=0.5)),
    "reconstruction": losses.reconstruction_loss,
    "consensus": lambda x, y: losses.consensus_loss(Prediction(x), Prediction(x.flip(0) * 0.5), y),
    "pseudo dice": lambda x, y: losses.pseudo_dice_loss(Prediction(x), y),
}
"""Of a branch's logits and a one-hot annotation or pseudo label."""


@pytest.mark.parametrize("name", ALL_LOSSES)
@pytest.mark.parametrize("node", [(0, 0, 0), (1, 1, 1), (0, 1, 0)], ids=["none", "all", "one"])
def test_gradients_agree_with_finite_differences(name: str, node: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 1, 1, 3, dtype=torch.float64, requires_grad=True)
    y = (
        torch.cat([annotation(*node), annotation(0, 0, 1)])
        if name != "partial"
        else annotation(*node).repeat(2, 1, 1, 1, 1)
    )
    assert torch.autograd.gradcheck(lambda x: ALL_LOSSES[name](x, y), (logits,))


def test_consensus_gradient_flows_through_both_branches() -> None:
    torch.manual_seed(0)
    pair = [torch.randn(1, 2, 1, 1, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    pseudo = annotation(0, 1, 0) * 0.8 + 0.1
    assert torch.autograd.gradcheck(
        lambda a, b: losses.consensus_loss(Prediction(a), Prediction(b), pseudo), tuple(pair)
    )
    losses.consensus_loss(*map(Prediction, pair), pseudo).backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in pair)


FLOOR = -math.log(1e-4)  # what a wholly wrong voxel costs in the reverse cross entropy
SMALL = 1e-5  # Tversky's and Dice's

# Two voxels, both annotated alike, logits (-50, 50) or (50, -50): the probability of node is 1 or 0 to within e^-100,
# so the right class costs 0, the wrong one 100 in a cross entropy
SATURATED = {
    # loss: (no voxel annotated: p 0, p 1), (all annotated: p 0, p 1)
    "cross_entropy": ((0.0, 100.0), (100.0, 0.0)),
    "reverse": ((0.0, FLOOR), (FLOOR, 0.0)),
    "symmetric": ((0.0, 80.0 + FLOOR), (80.0 + FLOOR, 0.0)),
    "partial": ((0.0, 0.0), (100.0, 0.0)),
    # TP 0, FP 2, FN 0: 0.4 * 2; TP 0, FP 0, FN 2: 0.6 * 2
    "tversky": ((0.0, 1 - SMALL / (0.8 + SMALL)), (1 - SMALL / (1.2 + SMALL), 0.0)),
    "full": ((0.0, 101 - SMALL / (2 + SMALL)), (101 - SMALL / (2 + SMALL), 0.0)),
}


@pytest.mark.parametrize("name", SATURATED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("annotated", [0, 1], ids=["no voxel annotated", "all annotated"])
@pytest.mark.parametrize("sure", [0, 1], ids=["sure of background", "sure of node"])
def test_saturated_logits_cost_what_they_should(name: str, dtype: torch.dtype, annotated: int, sure: int) -> None:
    level = 50.0 if sure else -50.0
    logits = torch.tensor([[-level, -level], [level, level]], dtype=dtype)[None, :, None, None, :].requires_grad_()
    loss = ALL_LOSSES[name](logits, annotation(annotated, annotated).to(dtype))
    loss.backward()
    assert loss.item() == pytest.approx(SATURATED[name][annotated][sure], rel=1e-4, abs=1e-6)
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_bfloat16_inputs_cost_what_the_same_numbers_do_in_float64(name: str) -> None:
    torch.manual_seed(0)
    logits = (3 * torch.randn(2, 2, 2, 3, 3)).bfloat16().requires_grad_()
    y = losses.one_hot((torch.rand(2, 2, 3, 3) > 0.6).to(torch.uint8))
    loss = ALL_LOSSES[name](logits, y.bfloat16())
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(ALL_LOSSES[name](logits.detach().double(), y.double()).item(), rel=1e-5)
    assert logits.grad is not None and logits.grad.dtype == torch.bfloat16 and torch.isfinite(logits.grad).all()


# Three voxels: background of p(node) 0.2, node of 0.75, and an unknown one of 0.9, which no loss may see.
THREE = torch.tensor([losses.BACKGROUND, losses.NODE, 0], dtype=torch.uint8).view(1, 1, 1, 3)


def test_what_is_unknown_counts_in_no_loss_of_the_annotation() -> None:
    y, known = losses.three_states(THREE)
    assert y[0, :, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0]] and known.flatten().tolist() == [True, True, False]
    seen = Prediction(logits_of(*P_NODE, 0.9))
    settings = Losses(gamma=0.8, alpha=0.4)
    for term, wanted in (("ce", CE), ("sce", 0.8 * CE + RCE), ("pce", PCE), ("tversky", TVERSKY)):
        found = losses.supervised_loss(seen, y, settings, [term], known).item()
        assert found == pytest.approx(wanted, abs=1e-6)  # the floor of RCE is in single precision


@pytest.mark.parametrize("batch_dice", [False, True])
def test_what_is_unknown_counts_in_no_dice_and_no_hardest_voxels(batch_dice: bool) -> None:
    y, known = losses.three_states(THREE)
    seen = Prediction(logits_of(*P_NODE, 0.9))
    dice = 1.0 - 2.0 * 0.75 / (0.2 + 0.75 + 1.0)
    for part, cross in ((1.0, CE), (0.3, -math.log(0.75))):  # one voxel of three, the node's
        settings = Losses(batch_dice=batch_dice, hardest=part)
        found = losses.supervised_loss(seen, y, settings, ["dice_ce"], known).item()
        assert found == pytest.approx(cross + dice, abs=1e-5)


def test_where_nothing_is_known_the_losses_are_0_or_that_of_an_empty_patch() -> None:
    y, known = losses.three_states(torch.zeros(1, 1, 1, 3, dtype=torch.uint8))
    logits = logits_of(0.2, 0.5, 0.9).requires_grad_()
    seen = Prediction(logits)
    loss = losses.supervised_loss(seen, y, Losses(), losses.EQ_5, known)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6) and logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize("term", ["ce", "sce", "pce", "tversky", "dice_ce"])
def test_where_all_is_known_the_losses_are_the_papers_to_the_bit(term: losses.SupervisedTerm) -> None:
    torch.manual_seed(0)
    seen = Prediction(torch.randn(2, 2, 3, 4, 5))
    node = (torch.rand(2, 3, 4, 5) > 0.8).to(torch.uint8)
    y, known = losses.three_states(torch.where(node > 0, losses.NODE, losses.BACKGROUND).to(torch.uint8))
    assert torch.equal(y, losses.one_hot(node)) and known.all()
    given, plain = (losses.supervised_loss(seen, y, Losses(), [term], k) for k in (known, None))
    assert torch.equal(given, plain)
