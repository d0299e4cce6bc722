"""Presets with a reason beside each number, and the command line made from them.

Arrays and sizes are in z, y, x order, spacings in mm. `paper` holds the paper's numbers. Where `compact` and `tiny`
differ, the reason stands beside the value.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import tyro

from lnq.inference.spec import DEFAULT_CROP, CropSpec, IntTriple, NetworkSpec, Triple

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Trust = Literal["none", "certain"]
"""What the losses take for background: all that is not annotated, as in the paper, or certain background alone."""


PAPER_NETWORK = NetworkSpec()  # its defaults are the paper's


@dataclass(frozen=True)
class Sampling:
    """How patches are taken from a prepared case."""

    node_every: int = 3  # one sample in so many is centred on an annotated node: a third, as in the paper
    # One in so many is centred where training.mine found a network wrong, unless a node's turn comes; 0: none.
    wrong_every: int = 0
    node_jitter: float = 0.25  # a node's and a wrong place's patch is moved by up to this part of it
    # This part of fine-tuning's samples comes from full cases, the rest from all cases alike.
    full_share: float = 0.0
    region: bool = False  # centre the others in the mediastinal region: no node is reported outside it
    cache: bool = True  # hold the decompressed cases in memory; off for data larger than that

    def __post_init__(self) -> None:
        if self.wrong_every < 0:
            raise ValueError(f"sampling.wrong_every must not be negative, as {self.wrong_every} is")
        if not 0.0 <= self.full_share <= 1.0:
            raise ValueError(f"sampling.full_share must be 0 to 1, not {self.full_share:g}")

    def kind_of(self, index: int) -> Literal["node", "wrong"] | None:
        """What sample number `index` is centred on; None for a place in the region or in the crop."""
        if index % self.node_every == self.node_every - 1:
            return "node"
        return "wrong" if self.wrong_every and index % self.wrong_every == 0 else None


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the nnU-Net-style augmentation; `strong` turns the intensity part up."""

    rotation_deg: float = 30.0  # about each axis, in physical space, so that anisotropic voxels are not sheared
    scaling: tuple[float, float] = (0.7, 1.4)  # of the size of things; per patch, all axes alike
    p_rotation: float = 0.2  # nnU-Net's
    p_scaling: float = 0.2  # nnU-Net's
    mirror: tuple[bool, bool, bool] = (True, True, True)  # z, y, x, each with p = 0.5
    strong: bool = False  # wider and more frequent intensity changes: phantoms differ from real CTs in contrast
    copies: int = 0  # of annotated nodes that are laid into a patch at most, for cases that are annotated in part

    def __post_init__(self) -> None:
        if self.copies < 0:
            raise ValueError(f"augmentation.copies must not be negative, as {self.copies} is")


@dataclass(frozen=True)
class Stage:
    """One training run: length and optimiser."""

    epochs: int
    iterations: int = 250  # per epoch, the paper's
    batch: int = 2  # the paper's; of one step, shared out to the processes where there are several
    lr: float = 0.01  # the paper's; the losses are scaled for it
    momentum: float = 0.9  # Nesterov
    weight_decay: float = 3e-5  # the paper's
    poly_power: float = 0.9  # lr * (1 - epoch / epochs) ** power, the paper's
    clip_norm: float = 12.0  # of the whole gradient, the paper's
    ema: float = 0.0  # decay of an averaged copy of the weights, used by export where above 0; the paper has none

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return float(self.lr * (1.0 - epoch / self.epochs) ** self.poly_power)


@dataclass(frozen=True)
class Losses:
    """Parameters of METHOD section 5, the paper's values."""

    gamma: float = 0.8  # of CE in the symmetric cross entropy
    alpha: float = 0.4  # of false positives in Tversky: misses cost more
    tau: float = 0.3  # sharpens the mixed pseudo label
    final: float = 2.0  # lambda, the consensus loss's weight after the ramp
    ramp: float = 1 / 3  # of the epochs until then: 100 of 300
    # Of Dice + CE; as it is, a few marks in a patch without a node cost next to nothing.
    batch_dice: bool = False  # one Dice of the whole batch, not one of each sample
    hardest: float = 1.0  # the part of a sample's voxels, those of the largest cross entropy, that it is the mean of
    small_node_mm: float = 0.0  # nodes smaller than a ball of this diameter count as one, 16-fold at most
    trust: Trust = "none"  # certain: only what is certainly no node counts as background (METHOD section 9)

    def __post_init__(self) -> None:
        if not 0.0 < self.hardest <= 1.0:
            raise ValueError(f"losses.hardest must be above 0 and at most 1, not {self.hardest}")
        if not 0.0 <= self.small_node_mm < math.inf:
            raise ValueError(f"losses.small_node_mm must be a length or 0, not {self.small_node_mm:g}")


@dataclass(frozen=True)
class Config:
    """A preset: the network, what it sees, and how it is trained."""

    network: NetworkSpec = PAPER_NETWORK
    spacing_mm: Triple = (3.0, 0.8, 0.8)  # the median of LNQ2023
    crop: CropSpec = DEFAULT_CROP  # of the CT, in training and in inference
    patch: IntTriple = (64, 128, 224)  # the paper prints x, y, z
    normalisation: Literal["zscore", "ct"] = "zscore"
    paper_postprocess: bool = False  # the paper's post-processing numbers instead of those of the training labels
    sampling: Sampling = Sampling()
    augmentation: Augmentation = Augmentation()
    pretrain: Stage = Stage(epochs=1000, momentum=0.99)
    finetune: Stage = Stage(epochs=300, momentum=0.9)
    losses: Losses = Losses()
    auxiliary_dropout: float = 0.5  # of whole channels of what the auxiliary decoder reads, the paper's
    seed: int = 0
    workers: int = -1  # loader processes; 0 loads between the steps, -1 takes what suits the machine
    precision: Precision = "auto"  # bf16 where the device computes in it, else fp16 on GPUs, fp32 on CPUs
    channels_last: bool = True  # memory layout of activations: on a CPU a step takes 0.84 of the time
    compile: bool = False  # let torch.compile fuse the network's layers: it starts a minute or more later
    graph: bool = True  # record a step as a CUDA graph, where there is one GPU and no fp16: the host costs no time
    threads: int = 0  # CPU threads of the training process; 0 leaves PyTorch's choice
    devices: int = 1  # GPUs, or processes on a CPU; torchrun's number wins
    picture_every: int = 10  # epochs between two pictures of the progress; 0 draws none


ConfigArguments = Annotated[Config, tyro.conf.arg(name="")]
"""Type of a command's field that offers every entry of the configuration, as in `--finetune.epochs 3`."""


def _network(channels: tuple[int, ...], dropout: tuple[float, ...]) -> NetworkSpec:
    """The paper's network with another width and depth: it downsamples in-plane first, then along all three axes."""
    levels = len(channels)
    return NetworkSpec(
        channels=channels,
        kernels=((1, 3, 3), *((3, 3, 3),) * (levels - 1)),
        strides=((1, 2, 2), *((2, 2, 2),) * (levels - 2)),
        dropout=dropout,
    )


PAPER = Config(paper_postprocess=True)

COMPACT = Config(
    # On a CPU 16 channels cost no more than 8: its kernels work in blocks of 16. A small network needs less dropout.
    network=_network((16, 16, 32, 64, 128), (0.0, 0.05, 0.1, 0.2, 0.0)),
    spacing_mm=(3.0, 1.5, 1.5),  # a 5 mm node still spans three voxels, at a quarter of the work
    patch=(32, 64, 64),  # 96 mm a side: enough around a node, and more steps in the time than a larger one
    normalisation="ct",  # soft tissue fills the range
    # All patches lie where nodes can be. Every batch of two has an annotated node: without one Tversky has no gradient.
    sampling=Sampling(node_every=2, region=True),
    augmentation=Augmentation(strong=True),
    pretrain=Stage(epochs=8, iterations=50, momentum=0.99),  # as long as a CPU allows
    # 9,000 steps instead of 75,000 need a higher rate. Tried with larger patches, lr 0.01 took over twice as many steps
    # as 0.1 to the same loss. Averaged weights make up for the noise of large steps.
    finetune=Stage(epochs=150, iterations=60, lr=0.1, momentum=0.9, ema=0.99),
)

TINY = Config(
    network=_network((4, 8, 8), (0.0, 0.0, 0.0)),
    spacing_mm=(4.0, 3.0, 3.0),
    patch=(8, 16, 16),  # seconds on one core: for tests
    normalisation="ct",
    pretrain=Stage(epochs=2, iterations=3, momentum=0.99),
    finetune=Stage(epochs=2, iterations=3, momentum=0.9),
    workers=0,
)

PRESETS: dict[str, Config] = {"paper": PAPER, "compact": COMPACT, "tiny": TINY}


def preset(name: str) -> Config:
    """The preset of a name. Raises ValueError with the known names for an unknown one."""
    if name not in PRESETS:
        raise ValueError(f"Preset must be one of {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[name]


Command = TypeVar("Command")


def parse(command: type[Command], arguments: list[str] | None = None) -> Command:
    """Parse a command's dataclass with a field `config: ConfigArguments`, whose defaults are those of `--preset`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", choices=list(PRESETS), default="compact")
    chosen = early.parse_known_args(arguments)[0].preset
    required = {
        f.name: tyro.MISSING
        for f in dataclasses.fields(command)  # type: ignore[arg-type]
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    return tyro.cli(command, args=arguments, default=command(**(required | {"config": PRESETS[chosen]})))
