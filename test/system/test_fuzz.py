"""A spoiled file is read with a sound geometry or refused in one sentence, whatever was done to it.

A finding names its seed, which makes the same input again: `pytest -m slow test/test_fuzz.py --fuzz-seed 417
--fuzz-count 1`. `fuzzing.reading.make_input` makes it without reading it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from helpers.fuzzing.inputs import FORMATS, unspoiled
from helpers.fuzzing.reading import make_input, read_all, wrong_success

from lnq.archive.open import read_ct

FEW = range(3 * len(FORMATS))


def check(seeds: Iterable[int]) -> None:
    """Fail with the list of findings; what became of the inputs of each format is printed."""
    outcomes = list(read_all(seeds))
    for format in FORMATS:
        counts = Counter(outcome.refused for outcome in outcomes if outcome.format == format)
        print(f"{format:15} {counts[False]:4} accepted, {counts[True]:4} refused")
    longest, peak = max(o.seconds for o in outcomes), max(o.peak_mb for o in outcomes)
    print(f"longest {longest:.2f} s, peak {peak:.0f} MB")
    findings = [str(outcome) for outcome in outcomes if outcome.fault]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_not_spoiled_is_accepted(tmp_path, format):
    made = unspoiled(format)
    assert wrong_success(read_ct(made.write(tmp_path / "case")), made) is None


def test_a_seed_makes_the_same_input_again():
    assert [make_input(seed) for seed in FEW] == [make_input(seed) for seed in FEW]


def test_a_few_spoiled_inputs():
    check(FEW)


@pytest.mark.slow
def test_many_spoiled_inputs(request):
    first, count = request.config.getoption("--fuzz-seed"), request.config.getoption("--fuzz-count")
    check(range(first, first + count))
