"""What the tests of training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.prepared_cases import fake_dataset


@pytest.fixture(scope="session")
def make_prepared() -> Callable[..., Path]:
    """A function (folder, partial, full) that writes a prepared data set and returns the folder."""
    return fake_dataset


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared data set of two partial cases and a full one."""
    return fake_dataset(tmp_path / "prepared")
