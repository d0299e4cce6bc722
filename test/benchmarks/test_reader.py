"""The simulated reader judges balls whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.reviews import bump, write_candidates

from benchmarks.reader import judge
from lnq.image.volume import Volume, make_affine

PLACES_MM = [(-14.0, -14.0, 15.0), (14.0, 14.0, 45.0), (14.0, -14.0, 45.0)]


def test_true_nodes_are_accepted_with_the_outline_that_fits(tmp_path: Path) -> None:
    ct = Volume(np.zeros((20, 30, 30), np.int16), make_affine((3.0, 2.0, 2.0), (-30.0, -30.0, 0.0)))
    write_candidates(tmp_path / "case", ct, PLACES_MM, 5.0)
    truth = np.zeros(ct.shape, np.int16)
    truth[bump(ct, PLACES_MM[0], 5.0) >= 0.2] = 1  # larger than what is proposed
    truth[bump(ct, PLACES_MM[2], 5.0) >= 0.95] = 2  # a spot in the middle of the third
    decisions = judge(tmp_path / "case", truth, [1, 2, 3])
    first, second, third = decisions.judged
    assert first.verdict == "node" and first.threshold == pytest.approx(51 / 255)
    assert (second.verdict, second.threshold) == ("no node", None)
    assert third.verdict == "node" and third.threshold is not None and third.threshold > 0.9
    assert [j.candidate for j in judge(tmp_path / "case", truth, [2]).judged] == [2]


def test_part_of_a_node_that_no_outline_fits_is_unsure(tmp_path: Path) -> None:
    ct = Volume(np.zeros((20, 30, 30), np.int16), make_affine((3.0, 2.0, 2.0), (-30.0, -30.0, 0.0)))
    write_candidates(tmp_path / "case", ct, PLACES_MM[:1], 5.0)
    truth = np.zeros(ct.shape, np.int16)
    truth[:, 8, 8] = 1  # a rod through the ball, and far beyond it
    (only,) = judge(tmp_path / "case", truth, [1]).judged
    assert (only.verdict, only.threshold) == ("unsure", None)
