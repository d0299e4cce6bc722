"""The dual-branch network: one encoder, a main and an auxiliary decoder (METHOD section 3)."""

from __future__ import annotations

from torch import Tensor, nn

from lnq.inference.network import Decoder, Encoder
from lnq.inference.spec import NetworkSpec


class DualBranchNet(nn.Module):
    """[B, in_channels, Z, Y, X] -> (main, auxiliary), each [B, head_channels, Z, Y, X], before any softmax.

    Both decoders have the same shape and separate weights. In training, each channel that the auxiliary decoder reads,
    from skips and bottleneck, is dropped with probability `auxiliary_dropout`. `head_channels` is the number of
    classes, or 1 to reconstruct the image.
    """

    def __init__(self, spec: NetworkSpec, head_channels: int | None = None, auxiliary_dropout: float = 0.5) -> None:
        super().__init__()
        heads = spec.classes if head_channels is None else head_channels
        self.encoder = Encoder(spec)
        self.main = Decoder(spec, heads)
        self.auxiliary = Decoder(spec, heads)
        self.channel_dropout = nn.Dropout3d(auxiliary_dropout)

    def forward(self, x: Tensor, both: bool = True) -> tuple[Tensor, Tensor | None]:
        """Compute both branches, or with `both` false only the main one; the other result is then None."""
        features = self.encoder(x)
        main = self.main(features)
        if not both:
            return main, None
        return main, self.auxiliary([self.channel_dropout(f) for f in features])


def is_head(name: str) -> bool:
    """Whether a parameter belongs to a decoder's last 1x1x1 convolution."""
    return ".head." in name


def pass_on_weights(pretrained: dict[str, Tensor], network: DualBranchNet) -> None:
    """Load all pre-trained weights except the heads. Raises ValueError where the two networks differ in shape."""
    own = network.state_dict()
    heads = {name: value for name, value in own.items() if is_head(name)}
    body = {name: value for name, value in pretrained.items() if not is_head(name)}
    _load({**heads, **body}, network)


def copy_main_branch(branch: dict[str, Tensor], network: DualBranchNet) -> None:
    """Load the weights of a `lnq.inference.network.SegmentationNet`: its decoder, with head, into both branches.

    At first only the auxiliary branch's dropout makes the branches differ. A decoder from chance would instead make
    half of every mixed pseudo label noise. Raises ValueError where the two networks differ in shape.
    """
    weights = {}
    for name, value in branch.items():
        part, _, rest = name.partition(".")
        for own in ("main", "auxiliary") if part == "decoder" else (part,):
            weights[f"{own}.{rest}"] = value
    _load(weights, network)


def _load(weights: dict[str, Tensor], network: DualBranchNet) -> None:
    own = network.state_dict()
    if own.keys() != weights.keys():
        count = len(own.keys() ^ weights.keys())
        raise ValueError(f"Pre-trained weights are of another network: {count} tensors have no match")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"Pre-trained weights are of another network: {name} is {tuple(value.shape)}, "
                f"not {tuple(own[name].shape)}"
            )
    network.load_state_dict(weights)


def main_branch(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a dual-branch state dict that `lnq.inference.network.SegmentationNet` loads: all but `auxiliary`."""
    branch = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part in ("encoder", "main"):
            branch[f"{'decoder' if part == 'main' else part}.{rest}"] = value
    return branch
