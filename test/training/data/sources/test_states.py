"""Labels of three states from each kind of source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnq.image.volume import Volume, make_affine
from training.data.sources.raw_case import RawCase
from training.data.sources.states import BACKGROUND, NODE, UNKNOWN, node_of, states_of

VALUES = np.array([0, 1, 2, 7], np.uint8).reshape(1, 1, 4)
CT = Volume(np.zeros((1, 1, 4), np.int16), make_affine((1.0, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("full", "ignore", "wanted"),
    [
        (False, None, [UNKNOWN, NODE, NODE, NODE]),
        (True, None, [BACKGROUND, NODE, NODE, NODE]),
        (False, 7, [BACKGROUND, NODE, NODE, UNKNOWN]),
        (True, 7, [BACKGROUND, NODE, NODE, BACKGROUND]),
    ],
)
def test_states_follow_the_source(full: bool, ignore: int | None, wanted: list[int]) -> None:
    case = RawCase("a", Path("a"), Path("b"), full, "a", "train", ignore=ignore)
    assert states_of(case, CT, CT.with_array(VALUES)).ravel().tolist() == wanted
    assert (node_of(CT.with_array(VALUES), case).array > 0).ravel().tolist() == [w == NODE for w in wanted]


def test_a_label_of_a_part_leaves_the_rest_unknown() -> None:
    case = RawCase("a", Path("a"), Path("b"), False, "a", "train", ignore=7)
    flipped = Volume(VALUES[..., 2:0:-1].copy(), CT.affine @ np.diag([1.0, 1.0, -1.0, 1.0]))
    flipped.affine[:3, 3] = CT.affine[:3] @ [0, 0, 2, 1]
    assert states_of(case, CT, flipped).ravel().tolist() == [UNKNOWN, NODE, NODE, UNKNOWN]
