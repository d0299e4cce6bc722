"""Which chests are mirrored against the data set's other ones.

A case's `sides` (see `training.data.measures.sides`) are compared with the mean of the other patients', and with those
patients that it resembles most, as it is and mirrored. Both must speak for mirrored. Unusual anatomy, such as a large
tumour or a lung that was removed, resembles nobody either way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.dataset_page.cases import ShownCase

FEWEST_PATIENTS = 6  # with fewer, others' mean says little of what is usual
OPPOSED = -0.2  # correlation with the mean of the others; chests the right way round have 0.2 or more, an odd one -0.2
ALIKE = 0.3  # mean correlation with the most similar others, mirrored; chests the right way round have up to 0.26
_NEAREST = 3  # patients that are most similar
_AGREED = 0.2  # length of the mean of vectors of length 1: below it there is no usual way round


@dataclass(frozen=True)
class Likeness:
    """How much a chest resembles the other patients': correlations, from -1 to 1."""

    mean: float  # with their mean
    nearest: float  # with those it resembles most, on average
    nearest_mirrored: float  # the same of its mirror image

    @property
    def is_mirrored(self) -> bool:
        """Whether it looks mirrored against the others."""
        return self.mean <= OPPOSED and self.nearest_mirrored >= max(ALIKE, self.nearest)


def likeness(cases: Sequence[ShownCase]) -> dict[str, Likeness]:
    """The likeness of each case whose two lungs were found, by its name; empty where the patients are too few."""
    found = {case.name: _unit(case) for case in cases}
    vectors = {name: vector for name, vector in found.items() if vector is not None}
    patients: dict[str, list[np.ndarray]] = defaultdict(list)
    for case in cases:
        if case.name in vectors:
            patients[case.patient].append(vectors[case.name])
    if len(patients) < FEWEST_PATIENTS:
        return {}
    means = {patient: np.mean(own, axis=0) for patient, own in patients.items()}  # each patient counts once
    total = np.sum(list(means.values()), axis=0)
    compared = {}
    for case in cases:
        if case.name not in vectors:
            continue
        others = (total - means[case.patient]) / (len(means) - 1)
        if np.linalg.norm(others) < _AGREED:
            continue
        one = vectors[case.name]
        each = sorted(float(one @ mean) for patient, mean in means.items() if patient != case.patient)
        compared[case.name] = Likeness(
            mean=float(one @ others / np.linalg.norm(others)),
            nearest=float(np.mean(each[-_NEAREST:])),
            nearest_mirrored=-float(np.mean(each[:_NEAREST])),
        )
    return compared


def _unit(case: ShownCase) -> np.ndarray | None:
    """A case's sides as a vector of length 1; None where there are none or left equals right."""
    if case.measures is None or case.measures.sides is None:
        return None
    vector = np.array(case.measures.sides, np.float64)
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else None
