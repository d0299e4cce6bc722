"""Decisions applied to a case, on the CT's own grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.raw_pairs import node_label, write_pair
from helpers.reviews import decide, write_candidates

from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from training.data.sources.find import find_cases
from training.data.sources.states import BACKGROUND, NODE, UNKNOWN
from training.review.apply import review_case
from training.review.verdicts import tally

PLACES_MM = [(0.0, 30.0, 60.0), (-15.0, -40.0, 90.0)]


def flipped(volume: Volume) -> Volume:
    """The same CT stored feet last and right to left."""
    affine = volume.affine.copy()
    depth, _, columns = volume.shape
    affine[:3, 3] += affine[:3, 0] * (depth - 1) + affine[:3, 2] * (columns - 1)
    affine[:3, [0, 2]] *= -1
    return Volume(np.ascontiguousarray(volume.array[::-1, :, ::-1]), affine)


@pytest.mark.parametrize("stored", [lambda volume: volume, flipped], ids=["LPS", "flipped"])
def test_a_case_gets_a_label_of_three_states(thorax: Volume, tmp_path: Path, stored) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", stored(thorax))
    (case,) = find_cases([tmp_path / "raw"])
    folder = tmp_path / "out" / case.name
    ct = read_volume(case.image)
    found = write_candidates(folder, ct, PLACES_MM)
    decisions = [decide(folder, {1: "node", 2: "no node"})]
    reviewed = review_case(case, folder, decisions, tally(decisions, 2), 5.0)
    numbers, annotated = found.numbers.array, node_label(ct) > 0
    wanted = np.full(ct.shape, UNKNOWN)
    wanted[(numbers == 1) | annotated] = NODE
    wanted[numbers == 2] = BACKGROUND
    np.testing.assert_array_equal(reviewed.label.array, wanted)
    np.testing.assert_array_equal(reviewed.label.affine, ct.affine)
    assert not reviewed.full
    assert reviewed.counts() == {
        "background": int((wanted == BACKGROUND).sum()), "node": int((wanted == NODE).sum()),
        "unknown": int((wanted == UNKNOWN).sum()),
    }  # fmt: skip


def test_a_ct_that_changed_since_is_refused(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", thorax)
    (case,) = find_cases([tmp_path / "raw"])
    folder = tmp_path / "out" / case.name
    write_candidates(folder, thorax, PLACES_MM)
    with pytest.raises(ValueError, match="^lnq2023-train-0001-ct.nrrd is another CT than the one that candidates"):
        review_case(case, folder, [], tally([], 2), 5.0)
