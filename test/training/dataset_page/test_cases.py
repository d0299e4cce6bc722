from __future__ import annotations

from pathlib import Path

import pytest
from helpers.prepared_cases import fake_dataset
from helpers.shown_cases import measured, shown

from training.data.measures.record import write_measures
from training.data.splits import SPLITS_NAME, SplitRow, write_splits
from training.dataset_page.cases import read_cases


def test_cases_are_read_with_what_there_is_of_them(tmp_path: Path) -> None:
    data = fake_dataset(tmp_path, partial=1, full=1)
    write_measures(data / "case-01", measured())
    write_splits(data / SPLITS_NAME, [SplitRow("case-01", "Jones", "test")])
    one, other = read_cases(data)
    assert (one.name, one.split, one.measures, one.certain, one.annotation) == ("case-00", "", None, None, "partial")
    assert (other.name, other.split, other.measures, other.annotation) == ("case-01", "test", measured(), "full")


def test_a_case_of_three_states_and_one_without_a_patient() -> None:
    assert shown(told=True).annotation == "three states"
    assert shown("b", patient="").patient == "b" and shown("b", patient="Smith").patient == "Smith"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no prepared case"):
        read_cases(tmp_path)
