from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from training.ablation.rows import (
    ALL_ROWS,
    EXTRA_ROW,
    ROWS,
    SWEEPS,
    Row,
    parameter_of,
    pseudo_dice_loss,
    row_step,
    supervised_sum,
    with_parameter,
)
from training.config import TINY, Losses
from training.engine.loop import Position
from training.finetune import one_hot, theta
from training.method.losses import consensus_loss, mix_pseudo_label, ramp_up, total_loss

# Two voxels along x: p(node) is 0.2 at the first, annotated background, and 0.75 at the second, annotated node
CE = -(math.log(0.8) + math.log(0.75)) / 2
RCE = (0.2 + 0.25) / 2 * -math.log(1e-4)
PCE = -math.log(0.75)


def tversky(alpha: float) -> float:
    return 1 - (0.75 + 1e-5) / (0.75 + alpha * 0.2 + (1 - alpha) * 0.25 + 1e-5)


def logits_of(*p_node: float) -> Tensor:
    p = torch.tensor(p_node, dtype=torch.float64)
    return torch.stack([(1 - p).log(), p.log()])[None, :, None, None, :]


def annotation(*node: int) -> Tensor:
    y = torch.tensor(node, dtype=torch.float64)
    return torch.stack([1 - y, y])[None, :, None, None, :]


class FixedLogits(nn.Module):
    """Answers with logits that do not depend on the image, and says which branches were asked for."""

    def __init__(self, main: Tensor, aux: Tensor) -> None:
        super().__init__()
        self.main, self.aux = main, aux
        self.asked: list[bool] = []

    def forward(self, x: Tensor, both: bool = True) -> tuple[Tensor, Tensor | None]:
        self.asked.append(both)
        return self.main, self.aux if both else None


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


CONFIG = dataclasses.replace(TINY, losses=Losses(gamma=0.7, alpha=0.3, tau=0.2, final=1.6, ramp=0.5), seed=4)
CONFIG = dataclasses.replace(CONFIG, finetune=dataclasses.replace(CONFIG.finetune, epochs=20))
POSITION = Position(epoch=3, step=11)


def test_table_is_the_papers() -> None:
    dice = [19.04, 23.22, 45.10, 40.26, 39.34, 57.36, 56.10, 55.44]
    assd = [18.23, 25.41, 13.54, 15.19, 16.54, 9.85, 10.28, 9.35]
    assert list(ROWS) == ["baseline", "a", "b", "c", "d", "e", "f", "g"]
    assert [row.paper_dice for row in ROWS.values()] == dice
    assert [row.paper_assd_mm for row in ROWS.values()] == assd
    assert [name for name, row in ROWS.items() if row.pretrained] == ["g"]
    assert [name for name, row in ROWS.items() if row.pseudo == "dice"] == ["a", "b"]
    assert dataclasses.replace(ROWS["f"], name="g", pretrained=True).supervised == ROWS["g"].supervised


def test_pseudo_label_without_second_branch_is_refused() -> None:
    with pytest.raises(ValueError, match="^Row x: a dual branch and a pseudo label go together$"):
        Row("x", False, ("ce",), "dice", False, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ("baseline", CE),
        ("b", CE + tversky(0.3)),
        ("d", 0.7 * CE + RCE + tversky(0.3)),
        ("e", PCE + tversky(0.3)),
        ("f", 0.7 * CE + RCE + PCE + tversky(0.3)),
    ],
)
def test_supervised_losses_of_a_row_are_summed(row: str, wanted: float) -> None:
    settings = Losses(gamma=0.7, alpha=0.3)
    value = supervised_sum(logits_of(0.2, 0.75), annotation(0, 1), ROWS[row].supervised, settings)
    assert value.item() == pytest.approx(wanted, abs=1e-9)


def test_pseudo_dice_is_against_the_larger_class() -> None:
    pseudo = torch.stack([torch.tensor([0.6, 0.4, 0.5]), torch.tensor([0.4, 0.6, 0.5])])[None, :, None, None, :]
    value = pseudo_dice_loss(logits_of(0.2, 0.75, 0.1), pseudo).item()
    # node at the second voxel alone: a tie is background
    assert value == pytest.approx(1 - (2 * 0.75 + 1e-5) / (1.05 + 1 + 1e-5), abs=1e-9)


def test_pseudo_dice_has_the_gradient_of_its_value() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    pseudo = torch.rand(2, 2, 1, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: pseudo_dice_loss(x, pseudo), (logits,))
    nothing = annotation(0, 0, 0)  # no voxel of class 1
    assert torch.autograd.gradcheck(
        lambda x: pseudo_dice_loss(x, nothing), (logits[:1, :, :, :1].detach().requires_grad_(),)
    )


def test_full_method_is_eq_10(batch: dict[str, Tensor], network: FixedLogits) -> None:
    got = row_step(ROWS["f"], CONFIG)(network, batch, POSITION)["loss"]
    weight = ramp_up(3, final=1.6, length=10)
    mix = theta(4, 11)
    wanted = total_loss(network.main, network.aux, one_hot(batch["label"]), weight, mix, 0.7, 0.3, 0.2)
    assert got.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert row_step(ROWS["g"], CONFIG)(network, batch, POSITION)["loss"].item() == got.item()


def test_baseline_asks_for_the_main_branch_alone(batch: dict[str, Tensor], network: FixedLogits) -> None:
    terms = row_step(ROWS["baseline"], CONFIG)(network, batch, POSITION)
    wanted = nn.functional.cross_entropy(network.main, batch["label"].long())
    assert terms.keys() == {"loss"} and terms["loss"].item() == pytest.approx(wanted.item(), rel=1e-6)
    assert network.asked == [False]


def test_first_pseudo_label_row_is_cross_entropy_and_dice(batch: dict[str, Tensor], network: FixedLogits) -> None:
    got = row_step(ROWS["a"], CONFIG)(network, batch, POSITION)["loss"].item()
    label, mix = batch["label"], theta(4, 11)
    p = [branch.softmax(1)[:, 1] for branch in (network.main, network.aux)]
    hard = ((mix * p[0] + (1 - mix) * p[1] > 0.5) | (label > 0)).float()  # filled in with the annotation
    cross = sum(nn.functional.cross_entropy(x, label.long()).item() for x in (network.main, network.aux))
    overlap = sum(1 - (2 * (q * hard).sum() + 1e-5) / (q.sum() + hard.sum() + 1e-5) for q in p)
    assert got == pytest.approx(0.25 * (cross + ramp_up(3, 1.6, 10) * float(overlap)), rel=1e-5)


def test_consensus_rows_differ_in_their_supervision_alone(batch: dict[str, Tensor], network: FixedLogits) -> None:
    y = one_hot(batch["label"])
    p = [branch.softmax(1) for branch in (network.main, network.aux)]
    pseudo = mix_pseudo_label(*p, y, theta(4, 11), 0.2)
    pair = consensus_loss(network.main, network.aux, pseudo) + consensus_loss(network.aux, network.main, pseudo)
    for name in "cde":
        both = sum(supervised_sum(x, y, ROWS[name].supervised, CONFIG.losses) for x in (network.main, network.aux))
        got = row_step(ROWS[name], CONFIG)(network, batch, POSITION)["loss"].item()
        assert got == pytest.approx(0.25 * (both + ramp_up(3, 1.6, 10) * pair).item(), rel=1e-6)


def test_pseudo_label_cast_to_integers_is_the_annotation(batch: dict[str, Tensor], network: FixedLogits) -> None:
    y = one_hot(batch["label"])
    pair = consensus_loss(network.main, network.aux, y) + consensus_loss(network.aux, network.main, y)
    both = sum(supervised_sum(x, y, ("pce", "tversky"), CONFIG.losses) for x in (network.main, network.aux))
    got = row_step(EXTRA_ROW, CONFIG)(network, batch, POSITION)["loss"].item()
    assert got == pytest.approx(0.25 * (both + ramp_up(3, 1.6, 10) * pair).item(), rel=1e-6)


@pytest.mark.parametrize("row", ALL_ROWS)
@pytest.mark.parametrize("node", [0, 1], ids=["nothing annotated", "all annotated"])
def test_every_row_stays_finite_on_saturated_bfloat16_logits(row: str, node: int) -> None:
    main = torch.full((1, 2, 2, 2, 2), 50.0, dtype=torch.bfloat16)
    main[:, 0] = -50.0
    main.requires_grad_()
    aux = (-main.detach()).requires_grad_()
    label = torch.full((1, 2, 2, 2), node, dtype=torch.uint8)
    batch = {"image": torch.zeros(1, 1, 2, 2, 2), "label": label, "full": torch.tensor([False])}
    loss = row_step(ALL_ROWS[row], CONFIG)(FixedLogits(main, aux), batch, POSITION)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert main.grad is not None and torch.isfinite(main.grad).all()


def test_sweeps_change_one_parameter_and_hold_its_usual_value() -> None:
    usual = Losses()
    assert {name: parameter_of(usual, name) for name in SWEEPS} == {
        "tau": 0.3,
        "gamma": 0.8,
        "alpha": 0.4,
        "lambda": 2.0,
    }
    assert all(parameter_of(usual, name) in values for name, values in SWEEPS.items())
    assert with_parameter(usual, "lambda", 1.4) == dataclasses.replace(usual, final=1.4)
    assert with_parameter(usual, "tau", 0.1) == dataclasses.replace(usual, tau=0.1)
    with pytest.raises(ValueError, match="^Parameter must be one of tau, gamma, alpha, lambda, not 'ramp'$"):
        with_parameter(usual, "ramp", 0.5)
