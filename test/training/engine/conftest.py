"""A run that was left alone, to hold others against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.training_runs import RESUMED

from training.engine.finetuning import finetune


@pytest.fixture(scope="package")
def prepared(tmp_path_factory: pytest.TempPathFactory, make_prepared: Callable[..., Path]) -> Path:
    """A prepared data set that the tests of this folder share."""
    return make_prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="package")
def uninterrupted(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole fine-tuning."""
    folder = tmp_path_factory.mktemp("whole")
    assert finetune(prepared, folder, RESUMED)
    return folder
