"""Which cases are held out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.holding_out import hold_out
from training.data.sources.raw_case import RawCase


def case(name: str, full: bool, patient: str = "", split: str = "train") -> RawCase:
    return RawCase(name, Path("a"), Path("b"), full, patient or name, split)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=20), st.floats(0.01, 0.9))
def test_patients_stay_together_and_some_of_each_kind_train(kinds: list[tuple[bool, int]], share: float) -> None:
    cases = [case(f"c{i}", full, f"p{patient}") for i, (full, patient) in enumerate(kinds)]
    chosen = hold_out(cases, share)
    assert [(c.name, c.full) for c in chosen] == [(c.name, c.full) for c in cases]
    splits = {}
    for one in chosen:
        assert splits.setdefault(one.patient, one.split) == one.split
    partial = {c.patient for c in cases if not c.full}
    for patients in ({c.patient for c in cases} - partial, partial):
        count = sum(splits[patient] != "train" for patient in patients)
        assert count == (max(1, round(share * len(patients))) if len(patients) >= 3 else 0)
    assert all(splits[patient] != "validation" for patient in partial)
    assert hold_out(cases, share) == chosen


def test_wholly_annotated_patients_go_to_test_and_validation_in_turns() -> None:
    cases = [case(f"c{i}", True) for i in range(16)]
    assert Counter(one.split for one in hold_out(cases, 0.25)) == {"train": 12, "test": 2, "validation": 2}


def test_what_a_source_holds_out_is_all_that_is_held_out() -> None:
    cases = [case("a", True, split="test"), *(case(f"c{i}", True) for i in range(9))]
    assert hold_out(cases, 0.25) == cases
    with pytest.raises(ValueError, match=r"^The share of held-out patients must be at least 0 and below 1, not 1$"):
        hold_out(cases, 1.0)
