"""The dual-branch network: one encoder, a main and an auxiliary decoder (METHOD section 3)."""

from __future__ import annotations

from torch import Tensor, nn

from lnq.network import Decoder, Encoder
from lnq.spec import NetworkSpec

AUXILIARY_DROPOUT = 0.5
"""Probability with which the auxiliary decoder loses a whole channel of a feature map; in training only."""


class DualBranchNet(nn.Module):
    """[B, in_channels, Z, Y, X] -> (main, auxiliary), each [B, head_channels, Z, Y, X], before any softmax.

    Both decoders have the same shape and separate weights. The auxiliary one reads every feature map, skips and
    bottleneck, through channel dropout. `head_channels` is the class count, or 1 to reconstruct the image.
    """

    def __init__(self, spec: NetworkSpec, head_channels: int | None = None) -> None:
        super().__init__()
        heads = spec.classes if head_channels is None else head_channels
        self.encoder = Encoder(spec)
        self.main = Decoder(spec, heads)
        self.auxiliary = Decoder(spec, heads)
        self.channel_dropout = nn.Dropout3d(AUXILIARY_DROPOUT)

    def forward(self, x: Tensor, both: bool = True) -> tuple[Tensor, Tensor | None]:
        """With `both` false the auxiliary branch is not computed and None stands for it."""
        features = self.encoder(x)
        main = self.main(features)
        if not both:
            return main, None
        return main, self.auxiliary([self.channel_dropout(f) for f in features])


def is_head(name: str) -> bool:
    """Whether a parameter belongs to a decoder's last 1x1x1 convolution."""
    return ".head." in name


def pass_on_weights(pretrained: dict[str, Tensor], network: DualBranchNet) -> None:
    """Load all pre-trained weights but the heads. Raises ValueError where the two networks differ in shape."""
    own = network.state_dict()
    wanted = {name for name in own if not is_head(name)}
    body = {name: value for name, value in pretrained.items() if not is_head(name)}
    if wanted != set(body):
        raise ValueError(f"Pre-trained weights are of another network: {len(wanted ^ set(body))} tensors have no match")
    for name, value in body.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"Pre-trained weights are of another network: {name} is {tuple(value.shape)}, "
                f"not {tuple(own[name].shape)}"
            )
    network.load_state_dict({**own, **body})


def main_branch(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a dual-branch state dict, what `lnq.network.SegmentationNet` loads: encoder and main decoder."""
    branch = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part in ("encoder", "main"):
            branch[f"{'decoder' if part == 'main' else part}.{rest}"] = value
    return branch
