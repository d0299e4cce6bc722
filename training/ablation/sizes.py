"""The two sizes of the ablation, and one for tests: configurations and numbers of phantoms, with reasons."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from lnq.inference.spec import DEFAULT_CROP
from lnq.plain import to_plain
from training.config import COMPACT, PAPER, TINY, Config, Sampling, Stage

TRAIN_SEED, TUNE_SEED, TEST_SEED = 20000, 25000, 29000
"""First seeds of the phantoms to train on (partially annotated), to choose thresholds on, and to score (both full)."""


@dataclass(frozen=True)
class AblationSize:
    """The configuration that a cell trains with, and its phantoms."""

    config: Config
    pixels: int  # per side of a slice
    train: int  # number of phantoms to train on
    tune: int  # to choose thresholds on
    test: int  # to score


SMALL = AblationSize(
    Config(
        network=COMPACT.network,
        spacing_mm=(4.0, 2.0, 2.0),  # an 8 mm node spans two slices and four pixels
        patch=(24, 48, 48),  # 96 mm a side, as in compact, at 0.42 of its 22 GFLOP
        normalisation="ct",
        # Every second patch has a node, without which Tversky has no gradient. The others lie anywhere, as the table is
        # scored without the region: trained on patches of the region alone, a trial marked mostly chest wall muscle.
        sampling=Sampling(node_every=2),
        # With the paper's momentum of 0.99, such a short pre-training learns only the images' mean.
        pretrain=Stage(epochs=12, iterations=50, momentum=0.9),
        # Two cells side by side take about 13 minutes, each on one core with bfloat16. In trials of row f, 1,600 steps
        # at rate 0.02 came as far as 2,400 steps at 0.1.
        finetune=Stage(epochs=60, iterations=40, lr=0.03, momentum=0.9, ema=0.99),
    ),
    pixels=256,  # 1.3 to 1.8 mm each: still finer than the spacing
    train=60,
    tune=8,
    test=12,
)

FULL = AblationSize(
    # Post-processing is set by the phantoms' labels: the paper's numbers are those of its own data.
    dataclasses.replace(PAPER, paper_postprocess=False),
    pixels=512,
    train=120,
    tune=8,
    test=20,
)

TINY_SIZE = AblationSize(TINY, pixels=64, train=2, tune=1, test=1)

SIZES = {"small": SMALL, "full": FULL, "tiny": TINY_SIZE}

_CELL_OR_SPEED = ("seed", "workers", "threads", "devices", "picture_every", "graph")
"""Entries of the configuration that each cell sets itself, or that do not change the result."""


_LATER: dict[str, object] = {
    "compile": False,
    "crop": to_plain(DEFAULT_CROP),
    "losses.trust": "none",
    "losses.batch_dice": False,
    "losses.hardest": 1.0,
    "losses.small_node_mm": 0.0,
    "sampling.wrong_every": 0,
    "sampling.full_share": 0.0,
    "augmentation.copies": 0,
}
"""Entries that came after the first rows were made, with the value that changes nothing."""


def drop_usual(config: dict[str, Any]) -> None:
    """Remove the later entries of a plain configuration that change nothing: records from before them stay valid."""
    for path, usual in _LATER.items():
        group, _, name = path.rpartition(".")
        entries = config[group] if group else config
        if entries[name] == usual:
            del entries[name]


def settings_digest(size: AblationSize) -> str:
    """8 hex digits that two cells share only if their phantoms and their configurations, except the seed, agree."""
    config = to_plain(size.config)
    for name in _CELL_OR_SPEED:
        config.pop(name, None)
    del config["sampling"]["cache"]
    config["channels_last"] = False  # as it was when the first rows were made: it changes the last bits alone
    drop_usual(config)
    phantoms = {"pixels": size.pixels, "train": size.train, "tune": size.tune, "test": size.test}
    seeds = [TRAIN_SEED, TUNE_SEED, TEST_SEED]
    text = json.dumps({"config": config, "phantoms": phantoms, "seeds": seeds}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def changes(config: Config, default: Config) -> str:
    """The overridden settings as options of the command: `--finetune.epochs 120 --losses.ramp 0.5`."""
    pairs = zip(_entries(to_plain(config)), _entries(to_plain(default)), strict=False)
    words = []
    for (name, value), (_, usual) in pairs:
        if value != usual and name not in (*_CELL_OR_SPEED, "sampling.cache"):
            words.append(_option(name.replace("_", "-"), value))
    return " ".join(words)


def _option(name: str, value: object) -> str:
    """A setting as an option: `--patch 8 16 16`, `--augmentation.strong`, `--sampling.no-region`."""
    if isinstance(value, bool):
        group, dot, last = name.rpartition(".")
        return f"--{group}{dot}{'' if value else 'no-'}{last}"
    return " ".join([f"--{name}", *map(str, value if isinstance(value, (tuple, list)) else [value])])


def _entries(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """All leaves of a nested dict with their dotted names."""
    leaves: list[tuple[str, object]] = []
    for name, value in nested.items():
        leaves += _entries(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return leaves
