from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest

from lnq.inference.spec import CropSpec
from lnq.plain import from_plain, to_plain
from training.config import COMPACT, PRESETS, TINY, Config, ConfigArguments, parse, preset


@dataclass(frozen=True)
class Command:
    """One that takes a preset."""

    name: str
    preset: str = "compact"
    config: ConfigArguments = COMPACT


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_being_written_as_plain_values(name: str) -> None:
    assert from_plain(Config, json.loads(json.dumps(to_plain(PRESETS[name])))) == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_crop_as_a_bundle_does_unless_it_says_otherwise(name: str) -> None:
    assert preset(name).crop == CropSpec(margin_mm=10.0, region_margin_mm=15.0, use_region=True)


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="^Preset must be one of paper, compact, tiny, not 'huge'$"):
        preset("huge")


def test_options_change_the_chosen_preset() -> None:
    command = parse(Command, ["--name", "x", "--preset", "tiny", "--crop.margin-mm", "12", "--losses.tau", "0.2"])
    losses = dataclasses.replace(TINY.losses, tau=0.2)
    assert command.config == dataclasses.replace(TINY, crop=CropSpec(margin_mm=12.0), losses=losses)
    assert parse(Command, ["--name", "x"]).config == COMPACT
