from __future__ import annotations

import dataclasses

import pytest
from helpers.paths import ROOT

from lnq.inference.spec import CropSpec
from training.ablation.__main__ import parse_run
from training.ablation.sizes import SIZES, SMALL, changes, settings_digest
from training.ablation.table import read_table
from training.config import PAPER, Augmentation, Config, Sampling


def test_patches_fit_their_networks() -> None:
    for size in SIZES.values():
        config = size.config
        assert all(p % d == 0 for p, d in zip(config.patch, config.network.divisor, strict=True))


def test_full_has_the_papers_network_patch_and_schedule() -> None:
    config = SIZES["full"].config
    assert config == dataclasses.replace(PAPER, paper_postprocess=False)


def test_digest_tells_results_apart_but_not_machines() -> None:
    digest = settings_digest(SMALL)
    same = dataclasses.replace(SMALL.config, workers=3, threads=1, seed=5, sampling=Sampling(2, cache=False))
    assert settings_digest(dataclasses.replace(SMALL, config=same)) == digest
    for other in (
        dataclasses.replace(SMALL, train=61),
        dataclasses.replace(SMALL, pixels=128),
        dataclasses.replace(SMALL, config=dataclasses.replace(SMALL.config, patch=(24, 48, 64))),
        dataclasses.replace(SMALL, config=dataclasses.replace(SMALL.config, augmentation=Augmentation(strong=True))),
    ):
        assert settings_digest(other) != digest
    assert len(digest) == 8


def test_changes_are_options_of_the_command() -> None:
    assert changes(SMALL.config, SMALL.config) == ""
    longer = dataclasses.replace(
        SMALL.config,
        finetune=dataclasses.replace(SMALL.config.finetune, epochs=120),
        losses=dataclasses.replace(SMALL.config.losses, ramp=0.5),
        spacing_mm=(4.0, 2.5, 2.5),
        workers=0,
    )
    assert changes(longer, SMALL.config) == "--spacing-mm 4.0 2.5 2.5 --finetune.epochs 120 --losses.ramp 0.5"


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (dataclasses.replace(SMALL.config, sampling=Sampling(2, region=True)), "--sampling.region"),
        (dataclasses.replace(SMALL.config, augmentation=Augmentation(strong=True)), "--augmentation.strong"),
    ],
)
def test_the_command_understands_a_switch_as_it_is_written(config: Config, options: str) -> None:
    assert changes(config, SMALL.config) == options
    assert parse_run(["--output", "OUT", *options.split()]).config == config
    off = changes(SMALL.config, config)
    assert off == options.replace(".", ".no-") and parse_run(["--output", "OUT", *off.split()]).config == SMALL.config


@pytest.mark.parametrize("name", SIZES)
def test_seeds_of_training_and_scoring_do_not_meet(name: str) -> None:
    from training.ablation.data import phantom_sets

    ranges = [range(part.first_seed, part.first_seed + part.count) for part in phantom_sets(SIZES[name])]
    seeds = [seed for r in ranges for seed in r]
    assert len(set(seeds)) == len(seeds)
    assert [r.start for r in ranges] == [20000, 25000, 29000]


def test_digests_are_those_of_the_committed_table() -> None:
    """docs/results/ablation.csv refers to them: they stay as long as nothing changes that changes a result."""
    assert {name: settings_digest(size) for name, size in SIZES.items()} == {
        "small": "43461561",
        "full": "85b01fee",
        "tiny": "2b114c83",
    }
    assert {row.settings for row in read_table(ROOT / "docs" / "results") if row.size == "small"} == {"43461561"}


def test_another_crop_is_another_result() -> None:
    config = dataclasses.replace(SMALL.config, crop=CropSpec(margin_mm=20.0))
    assert settings_digest(dataclasses.replace(SMALL, config=config)) != settings_digest(SMALL)
    assert changes(config, SMALL.config) == "--crop.margin-mm 20.0"
