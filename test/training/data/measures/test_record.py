from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.shown_cases import measured, source

from training.data.measures.record import NAME, VERSION, Sliver, read_measures, write_measures


def test_measurements_come_back_from_their_file(tmp_path: Path) -> None:
    sliver = Sliver(((1, 2, 3), (2, 9, 9)), 5.0, 12.0, 14.0)
    for there in (measured(source=source(slivers=(sliver,))), measured(source=None, shift=None, sides=None, nodes=())):
        write_measures(tmp_path, there)
        assert read_measures(tmp_path) == there


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "other": 2}'])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    assert read_measures(tmp_path) is None


def test_another_version_counts_as_none(tmp_path: Path) -> None:
    assert read_measures(tmp_path) is None
    write_measures(tmp_path, dataclasses.replace(measured(), version=VERSION + 1))
    assert json.loads((tmp_path / NAME).read_text())["version"] == VERSION + 1
    assert read_measures(tmp_path) is None
