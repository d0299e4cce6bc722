"""What the tests of the benchmarks share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.prepared_cases import fake_dataset

from benchmarks.peers.launch import ContenderRun
from lnq.image.itk import write_volume
from lnq.image.volume import Volume


@pytest.fixture
def make_run() -> Callable[..., ContenderRun]:
    """A function that makes up a run with a start of 1 s; `work_s` goes to the network."""

    def make(contender: str, work_s: float, repeat: int = 1, case: str = "a", **values) -> ContenderRun:
        seconds = {"start": 1.0, "read": 0.0, "network": work_s}
        measured = {"cpu_outside": 0.25, "windows": 4, "base_bytes": 50 * 2**20, "peak_bytes": 100 * 2**20}
        values = measured | {"mask": "mask.mha"} | values
        return ContenderRun(contender, case, repeat, seconds, 1.0 + work_s, **values)

    return make


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared data set of two partial cases and a full one."""
    return fake_dataset(tmp_path / "prepared")


@pytest.fixture
def ct(tmp_path: Path, thorax: Volume) -> Path:
    """A file of the small thorax."""
    write_volume(thorax, tmp_path / "chest.mha")
    return tmp_path / "chest.mha"
