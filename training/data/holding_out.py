"""Which of a few cases are held out: to score a network before and after training, and to choose thresholds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from training.data.sources.raw_case import RawCase
from training.data.splits import Split

LEAST_PATIENTS = 3
"""Of a kind (all nodes annotated, or some): with fewer, none of that kind is held out."""


def hold_out(cases: Sequence[RawCase], share: float) -> list[RawCase]:
    """The cases with a share of the patients held out for test and, of those wholly annotated, for validation.

    Cases that their source holds out already stay so, and then no others are. Of each kind (wholly annotated, or in
    part) at least one patient is held out where there are three. Wholly annotated ones go to test and to validation in
    turns, those annotated in part to test. The choice depends on the patients' names alone. Raises ValueError for a
    share outside 0 to 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"The share of held-out patients must be at least 0 and below 1, not {share:g}")
    if share == 0 or any(case.split != "train" for case in cases):
        return list(cases)
    partial = {case.patient for case in cases if not case.full}
    part_of: dict[str, Split] = {}
    for full in (True, False):
        patients = {case.patient for case in cases} - partial if full else partial
        ordered = sorted(patients, key=lambda patient: hashlib.sha256(patient.encode()).digest())
        count = max(1, round(share * len(ordered))) if len(ordered) >= LEAST_PATIENTS else 0
        for index, patient in enumerate(ordered[:count]):
            part_of[patient] = "validation" if full and index % 2 else "test"
    return [dataclasses.replace(case, split=part_of.get(case.patient, "train")) for case in cases]
