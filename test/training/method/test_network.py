from __future__ import annotations

import dataclasses

import pytest
import torch

from lnq.inference.network import SegmentationNet
from training.config import COMPACT, TINY
from training.method.network import DualBranchNet, copy_main_branch, is_head, main_branch, pass_on_weights

NARROW = dataclasses.replace(TINY.network, channels=(2, 4, 4))


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_compact_preset_ships_at_most_5_million_parameters() -> None:
    with torch.device("meta"):
        assert parameters(SegmentationNet(COMPACT.network)) <= 5e6


def test_auxiliary_branch_drops_channels_in_training_only() -> None:
    torch.manual_seed(0)
    network = DualBranchNet(TINY.network)  # without other dropout
    x = torch.randn(1, 1, *TINY.patch)
    network.train()
    main, auxiliary = network(x)
    main_again, auxiliary_again = network(x)
    assert torch.equal(main, main_again) and not torch.equal(auxiliary, auxiliary_again)
    network.eval()
    assert torch.equal(network(x)[1], network(x)[1])


def test_auxiliary_branch_reads_every_feature_map_through_dropout() -> None:
    network = DualBranchNet(TINY.network).train()
    network.channel_dropout.p = 1.0  # all features lost: the image cannot be seen
    a, b = network(torch.randn(1, 1, *TINY.patch))[1], network(torch.randn(1, 1, *TINY.patch))[1]
    assert torch.equal(a, b)


def test_all_weights_but_the_heads_pass_on() -> None:
    torch.manual_seed(0)
    pretrained, network = DualBranchNet(TINY.network, head_channels=1), DualBranchNet(TINY.network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pass_on_weights(pretrained.state_dict(), network)
    after, source = network.state_dict(), pretrained.state_dict()
    heads = [name for name in after if is_head(name)]
    assert sorted(heads) == ["auxiliary.head.bias", "auxiliary.head.weight", "main.head.bias", "main.head.weight"]
    for name, value in after.items():
        assert torch.equal(value, before[name] if is_head(name) else source[name]), name


def test_weights_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="of another network"):
        pass_on_weights(DualBranchNet(COMPACT.network, 1).state_dict(), DualBranchNet(TINY.network))


def test_shipped_net_becomes_both_branches() -> None:
    torch.manual_seed(0)
    shipped, dual = SegmentationNet(TINY.network).eval(), DualBranchNet(TINY.network).eval()
    copy_main_branch(shipped.state_dict(), dual)
    x = torch.randn(2, 1, *TINY.patch)
    assert all(torch.equal(branch, shipped(x)) for branch in dual(x))
    with pytest.raises(
        ValueError, match=r"of another network: encoder.down.0.0.weight is \(8, 4, 1, 2, 2\), not \(4, 2, 1, 2, 2\)"
    ):
        copy_main_branch(shipped.state_dict(), DualBranchNet(NARROW))


def test_main_branch_is_the_net_that_is_shipped() -> None:
    torch.manual_seed(0)
    dual, shipped = DualBranchNet(TINY.network).eval(), SegmentationNet(TINY.network).eval()
    shipped.load_state_dict(main_branch(dual.state_dict()))
    x = torch.randn(2, 1, *TINY.patch)
    assert torch.equal(dual(x, both=False)[0], shipped(x))
    assert torch.equal(dual(x)[0], shipped(x))
