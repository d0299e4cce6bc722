from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.prepared_cases import recrop
from rich.console import Console

from lnq.inference.spec import CropSpec
from training.ablation import data
from training.ablation.sizes import SIZES
from training.config import TINY
from training.data.preparation import Preparation
from training.data.prepared import CaseInfo, case_folders

QUIET = Console(quiet=True)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Phantoms that would be written, in place of writing and preparing them."""
    asked: list[tuple[str, int]] = []

    def side_by_side(_work: object, items: list[tuple[data.PhantomSet, int, Path, int]], _processes: int) -> list[None]:
        asked.extend((phantoms.name, number) for phantoms, _, _, number in items)
        return []

    monkeypatch.setattr(data, "side_by_side", side_by_side)
    monkeypatch.setattr(data, "prepare_cases", lambda *_: True)
    return asked


def test_part_that_is_there_is_taken_as_it_is(
    tmp_path: Path, made: list[tuple[str, int]], make_prepared: Callable[..., Path]
) -> None:
    tiny = SIZES["tiny"]
    folders = data.prepared_folders("tiny", tiny, tmp_path)
    assert folders.tune == tmp_path / "tiny" / "4x3x3" / "tune"
    make_prepared(folders.tune)
    (tmp_path / "tiny" / "raw" / "train").mkdir(parents=True)
    (tmp_path / "tiny" / "raw" / "train" / "lnq2023-train-0001-ct.nrrd").touch()
    data.make_data("tiny", tiny, tmp_path, 1, QUIET)
    assert made == [("train", 2), ("test", 1)]


def test_part_that_was_cropped_otherwise_is_prepared_again(
    tmp_path: Path, make_prepared: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, made: list[tuple[str, int]]
) -> None:
    wide = dataclasses.replace(SIZES["tiny"], config=dataclasses.replace(TINY, crop=CropSpec(margin_mm=20.0)))
    folders = data.prepared_folders("tiny", wide, tmp_path)
    for folder in (folders.train, folders.tune, folders.test):
        make_prepared(folder)
    recrop(folders.test, wide.config.crop)
    wanted: list[Preparation] = []
    monkeypatch.setattr(data, "prepare_cases", lambda preparation, _console: wanted.append(preparation))
    data.make_data("tiny", wide, tmp_path, 3, QUIET)
    assert [(w.output, w.crop, w.processes) for w in wanted] == [
        (folder, CropSpec(margin_mm=20.0), 3) for folder in (folders.train, folders.tune)
    ]


@pytest.mark.slow
def test_phantoms_are_made_prepared_and_flagged(tmp_path: Path) -> None:
    tiny = dataclasses.replace(SIZES["tiny"], train=1)
    data.make_data("tiny", tiny, tmp_path, 1, QUIET)
    folders = data.prepared_folders("tiny", tiny, tmp_path)
    full = [CaseInfo.read(case_folders(folder)[0]).full for folder in (folders.train, folders.tune, folders.test)]
    assert full == [False, True, True]
    assert CaseInfo.read(case_folders(folders.train)[0]).spacing_mm == tiny.config.spacing_mm
