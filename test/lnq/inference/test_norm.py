"""The norm that keeps the memory layout, against PyTorch's own and against double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lnq.inference.network import SegmentationNet
from lnq.inference.norm import InstanceNorm, channels_last, lies_channels_last, normalised
from lnq.inference.spec import NetworkSpec

LAST = torch.channels_last_3d


def pair(channels: int, dtype: torch.dtype = torch.float32) -> tuple[InstanceNorm, nn.InstanceNorm3d]:
    """Our norm, and PyTorch's with the same random weights."""
    torch.manual_seed(channels)
    ours, theirs = InstanceNorm(channels).to(dtype), nn.InstanceNorm3d(channels, affine=True).to(dtype)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Channels far from 0 and of different deviation, channels last."""
    scale = torch.arange(1.0, shape[1] + 1).view(1, -1, 1, 1, 1)
    return ((torch.randn(*shape) + 7.0) * scale).to(dtype).to(memory_format=LAST)


@pytest.mark.parametrize("shape", [(1, 2, 3, 4, 5), (2, 16, 4, 6, 5), (3, 5, 1, 2, 9), (2, 64, 2, 2, 2)])
def test_channels_last_gives_the_numbers_and_gradients_of_double_precision(shape: tuple[int, ...]) -> None:
    ours, theirs = pair(shape[1])
    theirs = theirs.double()
    x = image(*shape).requires_grad_()
    wide = x.detach().double().contiguous().requires_grad_()
    upstream = torch.randn(shape)
    y, wanted = ours(x), theirs(wide)
    assert lies_channels_last(x) and lies_channels_last(y)
    y.backward(upstream.to(memory_format=LAST))
    wanted.backward(upstream.double())
    torch.testing.assert_close(y.double(), wanted, rtol=1e-4, atol=1e-4)
    assert x.grad is not None and wide.grad is not None and lies_channels_last(x.grad)
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-3, atol=1e-5)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-4, atol=1e-4)


def test_the_gradient_agrees_with_finite_differences() -> None:
    ours, _ = pair(3, torch.float64)
    x = image(2, 3, 2, 3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w, b: nn.functional.leaky_relu(
        torch.func.functional_call(ours, {"weight": w, "bias": b}, x), 0.01), (x, ours.weight, ours.bias))  # fmt: skip


def test_a_gradient_of_another_layout_is_understood() -> None:
    ours, theirs = pair(4)
    x = image(2, 4, 3, 3, 3).requires_grad_()
    ours(x).contiguous().sin().sum().backward()
    plain = x.detach().contiguous().requires_grad_()
    theirs(plain).sin().sum().backward()
    torch.testing.assert_close(x.grad, plain.grad, rtol=1e-3, atol=1e-4)


def test_channels_go_last_also_where_there_is_one() -> None:
    for channels in (1, 3):
        x = torch.randn(2, channels, 3, 4, 5)
        y = channels_last(x)
        assert torch.equal(y, x) and y.stride() == (60 * channels, 1, 20 * channels, 5 * channels, channels)


def test_other_layouts_are_pytorchs_to_the_bit() -> None:
    ours, theirs = pair(6)
    for x in (torch.randn(2, 6, 3, 4, 5), torch.randn(2, 6, 3, 4, 10)[..., ::2], torch.randn(6, 3, 4, 5)):
        assert torch.equal(ours(x), theirs(x))


def test_half_precision_is_normalised_in_single() -> None:
    ours, theirs = pair(8)
    x = image(2, 8, 8, 8, 8, dtype=torch.bfloat16)
    y = ours(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), theirs(x.float()), rtol=0.01, atol=0.02)


def test_the_formula_for_compilers_is_the_same() -> None:
    ours, theirs = pair(5)
    for dtype in (torch.float32, torch.float64):
        x = image(2, 5, 3, 4, 5, dtype=dtype)
        torch.testing.assert_close(
            normalised(x, ours.weight.to(dtype), ours.bias.to(dtype), ours.eps),
            theirs.to(dtype)(x),
            rtol=1e-4,
            atol=1e-4,
        )


def test_a_network_computes_in_the_layout_of_its_weights() -> None:
    spec = NetworkSpec((16, 16, 32), ((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 2, 2), (2, 2, 2)), (0.0, 0.0, 0.0))
    torch.manual_seed(0)
    plain = SegmentationNet(spec)
    last = SegmentationNet(spec)
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=LAST)  # type: ignore[call-overload]
    seen: list[bool] = []
    for module in last.modules():
        if isinstance(module, InstanceNorm):
            module.register_forward_hook(lambda _, given, out: seen.append(lies_channels_last(given[0])))
    x = torch.randn(2, 1, 8, 16, 16)
    torch.testing.assert_close(last(channels_last(x)), plain(x), rtol=1e-4, atol=1e-5)
    assert len(seen) == sum(isinstance(m, InstanceNorm) for m in plain.modules()) and all(
        seen[1:]
    )  # a first convolution may choose
