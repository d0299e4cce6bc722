"""The search for parameters: what it tries, that it goes on, and what it writes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.prepared_cases import fake_dataset
from helpers.training_runs import SHORT

from lnq.plain import to_plain
from training import search as module
from training.command import plain_console
from training.config import Losses
from training.data.prepared import CaseInfo, PreparedCase, case_folders, write_case
from training.data.splits import SPLITS_NAME, make_splits, write_splits
from training.engine.active import LossNotFiniteError
from training.scoring.partial_labels import Recall
from training.scoring.search_table import SearchTrial
from training.search import RANGES, Search, next_losses, search

GIVEN = Losses()


def trial(losses: Losses) -> SearchTrial:
    """A trial whose recall is best at gamma 0.5 and alpha 0.6."""
    off = abs(losses.gamma - 0.5) + 2 * abs(losses.alpha - 0.6)
    return SearchTrial(losses, Recall(0.5, 0.0, 100, round(100 * (1 - off / 3)), 0.5, 1.0))


def searched(count: int, seed: int = 0) -> list[SearchTrial]:
    trials: list[SearchTrial] = []
    for _ in range(count):
        trials.append(trial(next_losses(GIVEN, trials, seed)))
    return trials


def test_the_first_trial_has_the_given_parameters_and_the_others_lie_in_the_ranges() -> None:
    trials = searched(12)
    assert trials[0].losses == GIVEN
    for one in trials:
        assert all(low <= getattr(one.losses, name) <= high for name, (low, high) in RANGES.items())
        assert dataclasses.replace(one.losses, gamma=0.8, alpha=0.4, tau=0.3, final=2.0) == GIVEN
    assert len({one.losses for one in trials}) == 12


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been() -> None:
    trials = searched(9)
    assert next_losses(GIVEN, trials[:8], 0) == trials[8].losses != searched(9, seed=1)[8].losses


def test_later_trials_are_better_than_random_ones() -> None:
    trials = [one.recall.found for one in searched(40)]
    assert np.mean(trials[20:]) > np.mean(trials[:6]) + 5


def test_given_parameters_outside_the_ranges_are_tried_all_the_same() -> None:
    first = trial(dataclasses.replace(GIVEN, gamma=3.0))
    assert next_losses(GIVEN, [first], 0) != first.losses


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six partial cases in three folds."""
    folder = fake_dataset(tmp_path / "prepared", partial=6, full=0)
    write_splits(folder / SPLITS_NAME, make_splits([(f"case-{i:02d}", f"p{i}", "train") for i in range(6)], {}, 3))
    return folder


def completed(data: Path, folder: Path) -> Path:
    """The same cases with all three nodes annotated."""
    shutil.copytree(data, folder)
    for path in case_folders(folder):
        case = PreparedCase(path)
        label = case.whole("label")
        for z, y, x in ((3, 6, 5), (9, 18, 14)):
            label[z - 1 : z + 2, y - 2 : y + 3, x - 2 : x + 3] = 1
        info = dataclasses.replace(CaseInfo.read(path), full=True)
        write_case(path, info, case.whole("image"), label, case.whole("region"), case.points)
    return folder


def test_a_search_writes_its_trials_and_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    complete = completed(data, tmp_path / "complete")
    command = Search(data, out, trials=1, marks=50.0, fold=1, complete=complete, device="cpu", config=SHORT)
    assert search(command, plain_console(quiet=True))
    assert sorted(path.name for path in out.iterdir()) == ["search.csv", "search.md", "trial-000"]
    lines = (out / "search.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[1].split(",")[1:5] == ["0.8", "0.4", "0.3", "2.0"]
    assert "judged on 2 held-out cases with 2 annotated nodes" in (out / "search.md").read_text()
    assert "By complete labels the choice has a mean Dice of" in (out / "search.md").read_text()
    trained: list[Path] = []
    finetune = module.finetune
    monkeypatch.setattr(module, "finetune", lambda *given: trained.append(given[1]) or finetune(*given))
    assert search(dataclasses.replace(command, trials=2), plain_console(quiet=True))
    assert trained == [out / "trial-001"]
    assert (out / "search.csv").read_text().splitlines()[:2] == lines
    assert (out / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_signal_ends_the_search_and_nothing_is_chosen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "finetune", lambda *_: False)
    assert not search(Search(data, tmp_path / "out", config=SHORT), plain_console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_a_trial_whose_loss_is_not_finite_found_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise LossNotFiniteError("The loss was not finite in epoch 0")

    monkeypatch.setattr(module, "finetune", fail)
    assert search(Search(data, tmp_path / "out", trials=2, config=SHORT), plain_console(quiet=True))
    assert "0 of 2 nodes" in (tmp_path / "out" / "search.md").read_text()


def test_data_that_cannot_judge_are_refused_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "finetune", lambda *_: pytest.fail("trained"))
    command = Search(data, tmp_path / "out", config=SHORT, complete=tmp_path / "none")
    with pytest.raises(ValueError, match=f"^{tmp_path}/none does not hold case-0. as {data} does$"):
        search(command, plain_console(quiet=True))
    for path in case_folders(data):
        info = dataclasses.replace(CaseInfo.read(path), node_centres=())
        (path / "case.json").write_text(json.dumps(to_plain(info)))
    with pytest.raises(
        ValueError, match="^None of the held-out cases has an annotated node: nothing tells good from bad$"
    ):
        search(dataclasses.replace(command, complete=None), plain_console(quiet=True))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trials", "0"], "--trials must be at least 1, not 0"),
        (["--fold", "7"], "There is no fold 7: the folds are 0, 1, 2"),
        (["--method", "cross_entropy"], "Method cross_entropy has none of the parameters that are searched"),
        (["--losses.small-node-mm", "8"], "losses.small_node_mm is for method known alone, not for dbdmp"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    data: Path, tmp_path: Path, options: list[str], sentence: str, capsys
) -> None:
    arguments = ["--data", str(data), "-o", str(tmp_path / "out"), "--preset", "tiny", *options]
    assert module.main(arguments) == 2
    assert capsys.readouterr().err == f"Error: {sentence}\n"
