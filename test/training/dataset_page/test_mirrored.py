from __future__ import annotations

import numpy as np
import pytest
from helpers.shown_cases import measured, shown

from training.dataset_page.cases import ShownCase
from training.dataset_page.mirrored import FEWEST_PATIENTS, Likeness, likeness

USUAL = np.random.default_rng(9999).normal(0, 300, 256)


def chest(name: str, seed: int, factor: float = 1.0, patient: str = "") -> ShownCase:
    """A chest that is as usual but for its own noise, which is as large; mirrored where `factor` is below 0."""
    own = np.random.default_rng(seed).normal(0, 300, USUAL.size)
    sides = tuple(int(value) for value in factor * USUAL + own)
    return shown(name, measured(sides=sides), patient=patient or name)


def mirrored(cases: list[ShownCase]) -> list[str]:
    return [name for name, one in likeness(cases).items() if one.is_mirrored]


@pytest.mark.parametrize("count", [FEWEST_PATIENTS, 60])
def test_a_mirrored_chest_is_found_among_few_and_many(count: int) -> None:
    clean = [chest(str(n), 100 + n) for n in range(count)]
    assert mirrored(clean) == []
    assert mirrored([*clean[1:], chest("odd", 5, -1.0)]) == ["odd"]


def test_several_mirrored_ones_do_not_hide_each_other() -> None:
    odd = [chest(f"odd{n}", n, -1.0) for n in range(3)]
    assert mirrored([*(chest(str(n), 100 + n) for n in range(12)), *odd]) == ["odd0", "odd1", "odd2"]


def test_an_anatomy_like_no_others_is_not_taken_for_mirrored() -> None:
    usual = [chest(str(n), 100 + n) for n in range(20)]
    strange = [chest(f"strange{n}", n, factor) for n, factor in enumerate((0.0, -0.1, 0.1))]
    assert mirrored([*usual, *strange]) == []


def test_copies_of_a_patient_count_once() -> None:
    """Else copies of a mirrored one would make it usual, or speak for each other."""
    copies = [chest(f"copy{n}", 5, -1.0, patient="Smith") for n in range(9)]
    assert sorted(mirrored([*(chest(str(n), 100 + n) for n in range(6)), *copies])) == [c.name for c in copies]


def test_where_half_are_mirrored_or_patients_are_few_nothing_is_said() -> None:
    halves = [chest(str(n), n, 1.0 if n % 2 else -1.0) for n in range(40)]
    assert likeness(halves) == {}
    assert likeness([chest(str(n), n) for n in range(FEWEST_PATIENTS - 1)]) == {}
    assert likeness([chest(str(n), n, patient="Smith") for n in range(40)]) == {}


def test_cases_without_sides_are_left_out() -> None:
    clean = [chest(str(n), n) for n in range(8)]
    others = [shown("none", measured(sides=None)), shown("same", measured(sides=(0,) * USUAL.size))]
    assert sorted(likeness([*clean, *others])) == sorted(case.name for case in clean)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Likeness(-0.5, -0.1, 0.5), True),
        (Likeness(-0.19, -0.1, 0.5), False),
        (Likeness(-0.3, 0.0, 0.25), False),
        (Likeness(-0.3, 0.5, 0.4), False),
    ],
)
def test_all_numbers_must_agree(one: Likeness, said: bool) -> None:
    assert one.is_mirrored == said
