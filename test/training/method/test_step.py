"""The one step of Eq. 10: every row of Table 1 and both methods, against PyTorch's own losses and sums by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from helpers.fixed_logits import FixedLogits
from torch import Tensor, nn

from training.ablation.rows import ALL_ROWS, EXTRA_ROW, ROWS
from training.config import TINY, Losses
from training.data.dataset import BACKGROUND, NODE
from training.method.losses import (
    Prediction,
    consensus_loss,
    full_supervised_loss,
    mix_pseudo_label,
    one_hot,
    ramp_up,
    supervised_loss,
)
from training.method.step import (
    CROSS_ENTROPY,
    DBDMP,
    KNOWN,
    Objective,
    finetuning_step,
    position_at,
    pretraining_step,
    pseudo_weight,
    theta,
)

CONFIG = dataclasses.replace(TINY, losses=Losses(gamma=0.7, alpha=0.3, tau=0.2, final=1.6, ramp=0.5), seed=4)
CONFIG = dataclasses.replace(CONFIG, finetune=dataclasses.replace(CONFIG.finetune, epochs=20))
MIX = theta(4, 11)
WEIGHT = float(torch.tensor(ramp_up(3, final=1.6, length=10)))  # in single precision, as on the device


@pytest.fixture
def batch() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "image": torch.zeros(2, 1, 3, 4, 4),
        "label": (torch.rand(2, 3, 4, 4) > 0.8).to(torch.uint8),
        "full": torch.tensor([False, False]),
    }


@pytest.fixture
def network() -> FixedLogits:
    torch.manual_seed(1)
    return FixedLogits(torch.randn(2, 2, 3, 4, 4), torch.randn(2, 2, 3, 4, 4))


def loss_of(objective: Objective, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return terms_of(objective, network, batch)["loss"]


def terms_of(objective: Objective, network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return finetuning_step(objective, CONFIG)(network, batch, position_at(CONFIG, 3, 11, batch["full"].tolist()))


def eq_10(main: Tensor, aux: Tensor, y: Tensor, objective: Objective = DBDMP) -> Tensor:
    """Eq. 10 with the consensus loss, put together here."""
    pair = Prediction(main), Prediction(aux)
    pseudo = mix_pseudo_label(main.softmax(1), aux.softmax(1), y, MIX, CONFIG.losses.tau)
    supervised = sum(supervised_loss(branch, y, CONFIG.losses, objective.supervised) for branch in pair)
    consensus = consensus_loss(*pair, pseudo) + consensus_loss(*pair[::-1], pseudo)
    return 0.25 * (supervised + WEIGHT * consensus)


def test_theta_is_uniform_and_the_steps_alone() -> None:
    numbers = [theta(0, step) for step in range(2000)]
    assert numbers == [theta(0, step) for step in range(2000)] and len(set(numbers)) == 2000
    assert sum(numbers) / 2000 == pytest.approx(0.5, abs=0.02) and 0 <= min(numbers) < 0.01 < 0.99 < max(numbers) < 1
    assert theta(1, 0) != theta(0, 0)


def test_weight_of_the_pseudo_label_ramps_over_a_part_of_the_epochs() -> None:
    assert [pseudo_weight(CONFIG, epoch) for epoch in (3, 9, 19)] == [pytest.approx(WEIGHT), 1.6, 1.6]


@pytest.mark.parametrize("name", ["c", "d", "e", "f", "g"])
def test_consensus_rows_are_eq_10_with_their_supervision(name: str, batch: dict[str, Tensor], network: FixedLogits):
    objective = ROWS[name].objective
    got = loss_of(objective, network, batch).item()
    assert got == pytest.approx(eq_10(network.main, network.aux, one_hot(batch["label"]), objective).item(), rel=1e-6)


def test_shipped_method_is_row_f_on_partial_cases(batch: dict[str, Tensor], network: FixedLogits) -> None:
    f, shipped = (terms_of(o, network, batch) for o in (ROWS["f"].objective, DBDMP))
    assert list(f) == list(shipped) == ["loss", "supervised_main", "supervised_aux", "consensus_main", "consensus_aux"]
    assert all(torch.equal(f[name], shipped[name]) for name in f)


@pytest.mark.parametrize("objective", [CROSS_ENTROPY, ROWS["baseline"].objective], ids=lambda o: o.name)
def test_baseline_asks_for_the_main_branch_alone(
    objective: Objective, batch: dict[str, Tensor], network: FixedLogits
) -> None:
    terms = terms_of(objective, network, batch | {"full": torch.tensor([True, False])})
    wanted = nn.functional.cross_entropy(network.main, batch["label"].long())
    assert terms.keys() == {"loss"} and terms["loss"].item() == pytest.approx(wanted.item(), rel=1e-6)
    assert network.asked == [False]


def test_what_is_known_alone_trains_the_main_branch(batch: dict[str, Tensor], network: FixedLogits) -> None:
    label = torch.where(batch["label"] > 0, NODE, 0).to(torch.uint8)
    label[:, :, :2] = torch.where(label[:, :, :2] > 0, NODE, BACKGROUND)  # the rest without a node is unknown
    config = dataclasses.replace(CONFIG, losses=dataclasses.replace(CONFIG.losses, trust="certain"))
    position = position_at(config, 3, 11, [True, False])
    found = finetuning_step(KNOWN, config)(network, batch | {"label": label}, position)
    log_p, known = network.main.log_softmax(1), label > 0
    cross = -log_p.gather(1, (label == NODE).long()[:, None])[:, 0][known].mean()
    p, y = log_p[:, 1].exp() * known, label == NODE
    dice = [1 - (2 * p[i][y[i]].sum() + 1e-5) / (p[i].sum() + y[i].sum() + 1e-5) for i in range(len(p))]
    assert found.keys() == {"loss"} and network.asked == [False]
    assert found["loss"].item() == pytest.approx(cross.item() + sum(dice).item() / len(dice), rel=1e-5)


def test_weights_of_the_samples_are_those_of_dice_and_cross_entropy(
    batch: dict[str, Tensor], network: FixedLogits
) -> None:
    weight = 1.0 + 3.0 * (batch["label"] > 0).float()
    position = position_at(CONFIG, 3, 11, [True, False])
    found = finetuning_step(KNOWN, CONFIG)(network, batch | {"weight": weight}, position)
    wanted = full_supervised_loss(Prediction(network.main), one_hot(batch["label"]), CONFIG.losses, weight=weight)
    plain = finetuning_step(KNOWN, CONFIG)(network, batch, position)
    assert found["loss"].item() == wanted.item() != plain["loss"].item()


def test_first_pseudo_label_row_is_cross_entropy_and_dice(batch: dict[str, Tensor], network: FixedLogits) -> None:
    terms = terms_of(ROWS["a"].objective, network, batch)
    label = batch["label"]
    p = [branch.softmax(1)[:, 1] for branch in (network.main, network.aux)]
    hard = ((MIX * p[0] + (1 - MIX) * p[1] > 0.5) | (label > 0)).float()  # filled in with the annotation
    cross = sum(nn.functional.cross_entropy(x, label.long()).item() for x in (network.main, network.aux))
    overlap = [1 - (2 * (q * hard).sum() + 1e-5) / (q.sum() + hard.sum() + 1e-5) for q in p]
    assert terms["loss"].item() == pytest.approx(0.25 * (cross + WEIGHT * float(sum(overlap))), rel=1e-5)
    assert terms["dice_aux"].item() == pytest.approx(overlap[1].item(), rel=1e-5)


def test_pseudo_label_cast_to_integers_is_the_annotation(batch: dict[str, Tensor], network: FixedLogits) -> None:
    y = one_hot(batch["label"])
    pair = Prediction(network.main), Prediction(network.aux)
    consensus = consensus_loss(*pair, y) + consensus_loss(*pair[::-1], y)
    supervised = sum(supervised_loss(branch, y, CONFIG.losses, ("pce", "tversky")) for branch in pair)
    wanted = 0.25 * (supervised + WEIGHT * consensus)
    assert loss_of(EXTRA_ROW.objective, network, batch).item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("full", [(False, False), (True, True), (True, False)])
def test_full_samples_stay_out_of_the_partial_losses(
    full: tuple[bool, bool], batch: dict[str, Tensor], network: FixedLogits
) -> None:
    terms = terms_of(DBDMP, network, batch | {"full": torch.tensor(full)})
    y, wanted = one_hot(batch["label"]), 0.0
    partial, whole = [i for i in (0, 1) if not full[i]], [i for i in (0, 1) if full[i]]
    if partial:
        wanted += eq_10(network.main[partial], network.aux[partial], y[partial]).item() * len(partial) / 2
    for i in whole:
        pair = [Prediction(branch[i : i + 1]) for branch in (network.main, network.aux)]
        wanted += sum(full_supervised_loss(branch, y[i : i + 1], Losses()).item() for branch in pair) / 2 / 2
    assert terms["loss"].item() == pytest.approx(wanted, rel=1e-6)
    assert ("full_main" in terms, "supervised_main" in terms) == (bool(whole), bool(partial))


def test_rows_take_every_case_for_a_partial_one(batch: dict[str, Tensor], network: FixedLogits) -> None:
    plain, marked = (loss_of(ROWS["f"].objective, network, batch | {"full": torch.tensor([f, f])}) for f in (0, 1))
    assert torch.equal(plain, marked)


def test_full_cases_of_a_single_branch_have_no_loss_of_their_own() -> None:
    with pytest.raises(ValueError, match="^x: full cases have a loss of their own beside a pseudo label alone$"):
        Objective("x", ("ce",), trust_full=True)


@pytest.mark.parametrize("row", ALL_ROWS)
@pytest.mark.parametrize("node", [0, 1], ids=["nothing annotated", "all annotated"])
def test_every_row_stays_finite_on_saturated_bfloat16_logits(row: str, node: int) -> None:
    main = torch.full((1, 2, 2, 2, 2), 50.0, dtype=torch.bfloat16)
    main[:, 0] = -50.0
    main.requires_grad_()
    aux = (-main.detach()).requires_grad_()
    label = torch.full((1, 2, 2, 2), node, dtype=torch.uint8)
    batch = {"image": torch.zeros(1, 1, 2, 2, 2), "label": label, "full": torch.tensor([False])}
    loss = loss_of(ALL_ROWS[row].objective, FixedLogits(main, aux), batch)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert main.grad is not None and torch.isfinite(main.grad).all()
    if ALL_ROWS[row].objective.both:
        assert aux.grad is not None and torch.isfinite(aux.grad).all()


def test_gradient_of_the_step_agrees_with_finite_differences_of_its_terms(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    main, aux = (torch.randn(2, 2, 1, 1, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    batch |= {"label": torch.tensor([[[[0, 1, 0]]], [[[0, 0, 0]]]], dtype=torch.uint8)}
    y = one_hot(batch["label"])
    pseudo = mix_pseudo_label(main.softmax(1), aux.softmax(1), y, MIX, 0.2)  # held while logits are varied

    def total(a: Tensor, b: Tensor) -> Tensor:
        pair = Prediction(a), Prediction(b)
        supervised = sum(supervised_loss(branch, y, CONFIG.losses) for branch in pair)
        return 0.25 * (supervised + WEIGHT * (consensus_loss(*pair, pseudo) + consensus_loss(*pair[::-1], pseudo)))

    assert torch.autograd.gradcheck(total, (main, aux))
    wanted = torch.autograd.grad(total(main, aux), (main, aux))
    got = torch.autograd.grad(loss_of(DBDMP, FixedLogits(main, aux), batch), (main, aux))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype, batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    half = (4 * torch.randn(2, 2, 3, 4, 4)).to(dtype)
    loss, wanted = (loss_of(DBDMP, FixedLogits(x, x.flip(0)), batch) for x in (half, half.double()))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_pre_training_sums_both_branches_errors() -> None:
    network = FixedLogits(torch.full((1, 1, 1, 1, 2), 3.0), torch.full((1, 1, 1, 1, 2), 1.0))
    terms = pretraining_step(
        network, {"image": torch.zeros(1, 1, 1, 1, 2), "clean": torch.ones(1, 1, 1, 1, 2)}, position_at(CONFIG, 0, 0)
    )
    assert {name: value.item() for name, value in terms.items()} == {"loss": 4.0, "mse_main": 4.0, "mse_aux": 0.0}


def test_with_certain_background_alone_unknown_voxels_have_their_pseudo_label_only(network: FixedLogits) -> None:
    """The same loss as Eq. 10 put together here, with a label of which a part is unknown."""
    torch.manual_seed(3)
    label = torch.randint(0, 3, (2, 3, 4, 4), dtype=torch.uint8)
    config = dataclasses.replace(CONFIG, losses=dataclasses.replace(CONFIG.losses, trust="certain"))
    batch = {"image": torch.zeros(2, 1, 3, 4, 4), "label": label}
    got = finetuning_step(ROWS["f"].objective, config)(network, batch, position_at(config, 3, 11, (False, False)))
    node, known = (label == 1).float(), label > 0
    y = torch.stack([(label == 2).float(), node], dim=1)
    pair = Prediction(network.main), Prediction(network.aux)
    pseudo = mix_pseudo_label(pair[0].p, pair[1].p, one_hot(node), MIX, CONFIG.losses.tau)
    wanted = 0.0
    for branch, other in (pair, pair[::-1]):
        p = branch.p[:, 1][known], node[known]
        cross = nn.functional.binary_cross_entropy(*p)
        reverse = ((p[0] - p[1]).abs() * -math.log(1e-4)).mean()
        overlap = (p[0] * p[1]).sum()
        false_positive, missed = p[0].sum() - overlap, p[1].sum() - overlap
        tversky = 1 - (overlap + 1e-5) / (overlap + 0.3 * false_positive + 0.7 * missed + 1e-5)
        partial = -branch.log_p[:, 1][node > 0].mean()
        wanted += 0.25 * (0.7 * cross + reverse + partial + tversky + WEIGHT * consensus_loss(branch, other, pseudo))
    assert got["loss"].item() == pytest.approx(float(wanted), rel=1e-5)
    assert y.sum() == known.sum()


def test_full_samples_among_certain_background_have_dice_and_cross_entropy(network: FixedLogits) -> None:
    label = torch.randint(1, 3, (2, 3, 4, 4), dtype=torch.uint8)
    config = dataclasses.replace(CONFIG, losses=dataclasses.replace(CONFIG.losses, trust="certain"))
    position = position_at(config, 3, 11, (True, True))
    terms = finetuning_step(DBDMP, config)(network, {"image": torch.zeros(2, 1, 3, 4, 4), "label": label}, position)
    y = one_hot((label == 1).to(torch.uint8))
    wanted = sum(full_supervised_loss(Prediction(branch), y, Losses()) for branch in (network.main, network.aux)) / 2
    assert terms["loss"].item() == pytest.approx(float(wanted), rel=1e-6)
