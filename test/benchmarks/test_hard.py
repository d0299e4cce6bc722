"""The hard set: its labels are those of the phantoms' own annotator, its tables, and a whole run in small."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hard import Cell, Hard, cells_of, main, scores_of
from benchmarks.hard_data import HardSet, annotate
from benchmarks.hard_table import NAMES, HardScore, mean_rows, sort_scores
from lnq.image.itk import read_volume, write_volume
from lnq.plain import to_plain
from phantom.annotate import Annotator
from phantom.make import make_phantom
from phantom.write import write_phantom
from training.command import plain_console


@pytest.mark.parametrize("share", [0.05, 0.4])
def test_labels_are_what_the_phantoms_annotator_draws(share: float) -> None:
    annotator = Annotator(share, off_voxels=2)
    phantom = make_phantom(20001, size=64, annotator=annotator)
    facts = [{"label": node.label, "short_axis_mm": node.short_axis_mm} for node in phantom.info.nodes]
    np.testing.assert_array_equal(annotate(phantom.nodes.array, facts, 20001, annotator), phantom.partial.array)
    assert 0 < phantom.partial.array.sum() < (phantom.nodes.array > 0).sum()


def test_some_cases_of_a_table_are_annotated_wholly(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for number in (1, 2, 3):
        write_phantom(tmp_path / "train", "train", number, 19999 + number, size=64)
    data = HardSet(tmp_path, train=3)
    for full, share, kinds in ((0, 0.2, "ppp"), (1, 0.2, "ppf"), (0, 1.0, "fff")):
        with open(data.table(share, full), newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["annotation"][0] for row in rows] == list(kinds)
        for row in rows:
            nodes, label = (read_volume(Path(row["image"].replace("-ct", "-nodes"))), read_volume(Path(row["label"])))
            if row["annotation"] == "full":
                np.testing.assert_array_equal(label.array, nodes.array)
            else:
                assert 0 < np.count_nonzero(label.array) < np.count_nonzero(nodes.array)
    (tmp_path / "train").rename(tmp_path / "tune")
    for number in (1, 2, 3):
        case = f"lnq2023-train-{number:04d}"
        label = read_volume(tmp_path / "labels-0.2" / f"{case}-seg.nrrd").array
        nodes = read_volume(tmp_path / "tune" / f"{case}-nodes.nrrd").array
        annotated = [bool(label[nodes == value].any()) for value in np.unique(nodes[nodes > 0])]
        assert data.annotated(case, 0.2) == annotated
    (tmp_path / "tune").rename(tmp_path / "train")
    # a label that is there is kept
    path = tmp_path / "labels-0.2" / "lnq2023-train-0001-seg.nrrd"
    write_volume(read_volume(path).with_array(np.ones(read_volume(path).shape, np.uint8)), path)
    data.table(0.2)
    assert read_volume(path).array.all()


def score(arm: str = "copies", seed: int = 0, share: float = 0.2, dice: tuple[float, ...] = (0.5, 0.7)) -> HardScore:
    sizes, found = (3.0, 5.0, 9.99, 10.0, 20.0), (False, True, False, True, True)
    return HardScore(arm, share, seed, 0.9, 0.0, dice, (2.0, 4.0), sizes, found, (1, 2), 0.125, 0.8, (0.4, 0.6))


def test_recall_is_by_size() -> None:
    one = score()
    assert [one.recall(*of) for of in ((0, 5), (5, 10), (10, math.inf))] == [0.0, 0.5, 1.0]
    assert math.isnan(one.recall(30, 40))
    assert one.row == (
        "0.2",
        "copies",
        "0",
        "60.0",
        "3.00",
        "0.0",
        "50.0",
        "100.0",
        "1.50",
        "0.125",
        "0.9",
        "0",
        "0.8",
        "50.0",
    )


def test_means_are_over_seeds_with_their_range() -> None:
    scores = [score("g"), score(seed=1, dice=(0.3, 0.3)), score("complete", share=1.0), score()]
    rows = mean_rows(sort_scores(scores))
    assert [row[:3] for row in rows] == [
        ("100 %", NAMES["complete"], "1"), ("20 %", NAMES["g"], "1"), ("20 %", NAMES["copies"], "2"),
    ]  # fmt: skip
    assert [row[3] for row in rows] == ["60.0", "60.0", "45.0 (30.0 to 60.0)"]
    assert rows[0][4:] == ("3.0", "50", "100", "1.5", "50.0")


def test_complete_labels_are_one_cell_for_all_shares() -> None:
    cells = cells_of(Hard(Path(), seeds=(0, 1)))
    assert len(cells) == 2 * 2 * (len(Hard.arms) - 1) + 2
    assert sum(cell.name == "complete" and cell.share == 1 for cell in cells) == 2
    assert len({cell.folder for cell in cells}) == len(cells)


def test_scores_of_other_runs_are_left_out(tmp_path: Path) -> None:
    command = Hard(tmp_path, seeds=(0,))
    for name, share, seed, made_by in (
        ("recipe", 0.2, 0, command),
        ("g", 0.05, 7, command),  # that another command asked for
        ("recipe", 0.2, 1, Hard(tmp_path, length=0.5)),
        ("g", 0.2, 0, Hard(tmp_path, test=3)),
    ):
        cell = Cell(made_by, name, share, seed)
        cell.folder.mkdir(parents=True)
        content = {"made_from": cell.made_from(), "result": to_plain(score(name, seed, share))}
        (cell.folder / "score.json").write_text(json.dumps(content))
    (tmp_path / "cells" / "d-0.2-seed0").mkdir()
    (tmp_path / "cells" / "d-0.2-seed0" / "score.json").write_text("{}")
    assert [(one.arm, one.share, one.seed) for one in scores_of(command)] == [("recipe", 0.2, 0), ("g", 0.05, 7)]


def test_a_cell_knows_the_rules_of_its_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [Cell(Hard(tmp_path), name, 0.2, 0) for name in ("recipe", "g")]
    before = [cell.trained_from() for cell in cells]
    monkeypatch.setattr("benchmarks.hard.COPIES_VERSION", -1)
    assert [cell.trained_from() == earlier for cell, earlier in zip(cells, before, strict=True)] == [False, True]


def test_settings_that_came_later_and_change_nothing_leave_cells_as_they_are(tmp_path: Path) -> None:
    recipe, g = (json.dumps(Cell(Hard(tmp_path), name, 0.2, 0).trained_from()) for name in ("recipe", "g"))
    assert "small_node_mm" not in recipe + g
    assert '"batch_dice": true' in recipe and "batch_dice" not in g


def test_a_cell_that_was_trained_otherwise_starts_afresh(tmp_path: Path) -> None:
    console = plain_console()
    short, usual = (Cell(Hard(tmp_path, length=length), "recipe", 0.2, 0) for length in (0.5, 1.0))
    short.start_afresh_unless_alike(console)
    (short.folder / "model1").mkdir()
    short.start_afresh_unless_alike(console)
    assert (short.folder / "model1").is_dir()
    usual.start_afresh_unless_alike(console)
    assert not (short.folder / "model1").exists()


@pytest.mark.slow
def test_a_run_in_small_has_a_row_for_each_kind_of_training(tmp_path: Path) -> None:
    arguments = [
        "-o", str(tmp_path / "out"), "--size", "tiny", "--train", "12", "--tune", "1", "--test", "1",
        "--length", "0.05", "--seeds", "0", "--shares", "0.2", "--results", str(tmp_path / "results"),
    ]  # fmt: skip
    assert main(arguments) == 0
    with open(tmp_path / "results" / "hard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["complete", "g", "copies", "recipe", "recipe-full"]
    text = (tmp_path / "results" / "hard.md").read_text()
    assert "-o OUT --size tiny --length 0.05 --train 12 --tune 1 --test 1" in text and str(tmp_path) not in text
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").rglob("*")}
    assert main(arguments) == 0  # again: all is there
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "cells").rglob("*")}
