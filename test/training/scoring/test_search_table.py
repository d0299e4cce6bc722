from __future__ import annotations

import csv
from pathlib import Path

from training.config import Losses
from training.scoring.partial_labels import Recall
from training.scoring.search_table import COLUMNS, Complete, SearchTrial, best_of, report, write_trials


def trial(found: int, covered: float = 0.5, dice: float = 0.4, gamma: float = 0.8) -> SearchTrial:
    recall = Recall(0.3, 0.9, 8, found, covered, 9.5)
    return SearchTrial(Losses(gamma=gamma), recall, Complete(dice, dice + 0.1))


def test_the_best_trial_finds_most_then_covers_most_and_is_the_first_such() -> None:
    assert best_of([trial(3), trial(5, 0.2), trial(5, 0.4), trial(5, 0.4), trial(4, 0.9)]) == 2


def test_the_table_has_a_row_per_trial(tmp_path: Path) -> None:
    write_trials(tmp_path / "out" / "search.csv", [trial(3), SearchTrial(Losses(), Recall(0.3, 0.0, 8, 5, 0.5, 2.0))])
    with open(tmp_path / "out" / "search.csv") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and [row["found"] for row in rows] == ["3", "5"]
    assert [row["dice_complete_best"] for row in rows] == ["0.5", ""]


def test_the_report_compares_the_choice_with_the_given_parameters_and_with_complete_labels() -> None:
    text = report([trial(3), trial(6, dice=0.35, gamma=1.25), trial(2, dice=0.6)], 10.0, 2)
    assert "3 trials, judged on 2 held-out cases with 8 annotated nodes, at no more than 10 marks per CT." in text
    assert "- Best is trial 2: 6 of 8 nodes at 9.5 marks per CT, threshold 0.3, peak 0.9." in text
    assert "- The given parameters, trial 1: 3 of 8 nodes" in text and "fewest nodes found are 2." in text
    assert "mean Dice of 0.350, the given parameters 0.400. Complete labels would have chosen 0.700." in text
    assert "--losses.gamma 1.25 --losses.alpha 0.4 --losses.tau 0.3 --losses.final 2\n" in text
    assert "--threshold 0.3 --peak-threshold 0.9\n" in text


def test_without_complete_labels_nothing_is_said_of_them() -> None:
    assert "omplete labels" not in report([SearchTrial(Losses(), Recall(0.3, 0.0, 8, 5, 0.5, 2.0))], 10.0, 1)
