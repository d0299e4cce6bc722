from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers.prepared_cases import recrop

from lnq.inference.spec import CropSpec, Normalisation
from training.config import TINY, Augmentation, Losses, Sampling
from training.data.certain import add_certain
from training.data.prepared import case_folders
from training.data.splits import Selection
from training.data.training_set import read_training_set

WIDE = CropSpec(margin_mm=20.0)


def test_set_holds_the_chosen_cases_and_their_normalisation(prepared: Path) -> None:
    given = read_training_set(prepared, TINY)
    assert given.names == ("case-00", "case-01", "case-02")
    assert given.info.partial_cases == 2
    assert given.normalisation == Normalisation("ct", (-140.0, 120.0), 60.0, 40.0)
    assert read_training_set(prepared, TINY, Selection(annotated="full")).names == ("case-02",)


def test_data_cropped_otherwise_than_configured_are_refused(prepared: Path) -> None:
    recrop(prepared, WIDE)
    sentence = "has crop.margin_mm 20.0 where the configuration has crop.margin_mm 10.0: CTs must be cropped alike$"
    with pytest.raises(ValueError, match=f"^The data in {prepared} {sentence}"):
        read_training_set(prepared, TINY)
    assert read_training_set(prepared, dataclasses.replace(TINY, crop=WIDE)).info.crop == WIDE


def test_case_cropped_otherwise_than_its_data_set_is_refused(prepared: Path) -> None:
    """As a preparation leaves it that was stopped before its end."""
    recrop(prepared, WIDE, cases=False)
    with pytest.raises(ValueError, match=r"^Case case-00 in .* has crop.margin_mm 10.0 where its data set has"):
        read_training_set(prepared, dataclasses.replace(TINY, crop=WIDE))


def test_every_difference_is_named(prepared: Path) -> None:
    recrop(prepared, CropSpec(5.0, 15.0, False))
    with pytest.raises(
        ValueError, match=r"crop.margin_mm 5.0, crop.use_region False where .* 10.0, crop.use_region True"
    ):
        read_training_set(prepared, TINY)


def test_certain_background_must_be_there_where_the_losses_need_it(prepared: Path) -> None:
    config = dataclasses.replace(TINY, losses=Losses(trust="certain"))
    with pytest.raises(ValueError, match="case-00 has no certain background: run training.prepare again"):
        read_training_set(prepared, config)
    for folder in case_folders(prepared):
        add_certain(folder, (-140.0, 120.0))
    assert len(read_training_set(prepared, config).cases) == 3


def test_pre_training_needs_no_label_and_nothing_made_from_one(prepared: Path) -> None:
    config = dataclasses.replace(
        TINY, losses=Losses(trust="certain"), sampling=Sampling(wrong_every=4), augmentation=Augmentation(copies=4)
    )
    for folder in case_folders(prepared):
        for name in ("label", "region"):
            (folder / f"{name}.b2nd").unlink()
    assert config.sampling.cache
    assert len(read_training_set(prepared, config, labels=False).cases) == 3
    for missing, its in ((TINY, "label"), (config, "certain background")):
        with pytest.raises(ValueError, match=its):
            read_training_set(prepared, missing)
