from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.chests import draw_chest, grid, swapped, write_chest
from helpers.raw_pairs import prepare_tiny

from training.data.measures import measure as module
from training.data.measures.measure import add_measures, is_measured, measure_case
from training.data.measures.record import NAME, read_measures, write_measures
from training.data.sources.find import find_cases


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    write_chest(tmp_path / "raw", "a", *draw_chest(grid()))
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    return tmp_path / "out" / "a"


def test_a_case_is_measured_when_it_is_prepared(prepared: Path) -> None:
    found = read_measures(prepared)
    assert found is not None and found.source is not None and is_measured(prepared)
    assert len(found.nodes) == len(found.source.short_axes_mm) == 4
    assert found.blood_hu == pytest.approx(180, abs=10)
    assert found.shift is not None and found.shift.best_mm == (0.0, 0.0, 0.0)
    assert found.sides is not None and found.source.spacing_mm == (4.0, 3.0, 3.0)
    assert {node.side for node in found.nodes} == {"left", "right", "middle"}


def test_what_is_measured_again_from_arrays_and_source_is_the_same(prepared: Path, tmp_path: Path) -> None:
    (raw,) = find_cases([tmp_path / "raw"])
    first = read_measures(prepared)
    (prepared / NAME).unlink()
    add_measures(prepared, raw)
    assert read_measures(prepared) == first
    (prepared / NAME).write_text(json.dumps({"version": 0}))
    add_measures(prepared)
    assert first is not None and read_measures(prepared) == dataclasses.replace(first, source=None)
    assert not is_measured(prepared)
    add_measures(prepared, raw)  # only what is missing
    assert read_measures(prepared) == first


def test_a_source_that_cannot_be_read_leaves_its_measurements_out(prepared: Path, tmp_path: Path) -> None:
    (raw,) = find_cases([tmp_path / "raw"])
    (prepared / NAME).unlink()
    raw.label.write_bytes(b"")
    add_measures(prepared, raw)
    found = read_measures(prepared)
    assert found is not None and found.source is None and found.nodes


def test_what_is_there_is_not_measured_again(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "PreparedCase", fail)
    add_measures(prepared)


def test_a_failure_stops_no_preparation_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("it went wrong")

    monkeypatch.setattr(module, "best_shift", fail)
    write_chest(tmp_path / "raw", "a", *draw_chest(grid()))
    said = prepare_tiny(tmp_path / "raw", tmp_path / "out")
    assert "a is not measured: it went wrong" in said and "1 cases are prepared (1 of them now)" in said[-1]
    monkeypatch.undo()
    assert "(0 of them now)" in prepare_tiny(tmp_path / "raw", tmp_path / "out")[-1]
    assert is_measured(tmp_path / "out" / "a")


def test_a_run_killed_between_a_case_and_its_measurements_goes_on(prepared: Path, tmp_path: Path) -> None:
    first = read_measures(prepared)
    (prepared / NAME).unlink()
    assert "(0 of them now)" in prepare_tiny(tmp_path / "raw", tmp_path / "out")[-1]
    assert first is not None and read_measures(prepared) == first


def test_without_two_lungs_nothing_is_said_of_sides() -> None:
    ct, label = draw_chest(grid())
    found = measure_case(ct, label.array, np.ones(ct.shape, np.uint8), 1)
    assert found.sides is None
    assert all((node.side, node.above_carina_mm, node.outside) == (None, None, 0.0) for node in found.nodes)


def test_an_empty_label_has_no_nodes(tmp_path: Path) -> None:
    ct, label = draw_chest(grid())
    found = measure_case(ct, np.zeros_like(label.array), np.ones(ct.shape, np.uint8), 2)
    assert found.nodes == () and found.shift is None
    write_measures(tmp_path, found)
    assert read_measures(tmp_path) == found


def test_left_and_right_are_those_of_the_file(tmp_path: Path) -> None:
    """A file in which they are swapped gives the opposite sides."""
    for name, change in (("a", lambda volume: volume), ("b", swapped)):
        ct, label = draw_chest(grid())
        write_chest(tmp_path / "raw", name, change(ct), change(label))
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    one, other = (read_measures(tmp_path / "out" / name) for name in "ab")
    assert one is not None and other is not None and one.sides is not None and other.sides is not None
    assert np.corrcoef(one.sides, other.sides)[0, 1] < -0.8
