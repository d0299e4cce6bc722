from __future__ import annotations

import numpy as np
import pytest
from helpers.chests import draw_chest, grid

from training.data.measures.sides import CELLS, sides


@pytest.mark.parametrize("width", [64, 61])
def test_a_mirrored_chest_has_the_opposite_numbers(width: int) -> None:
    ct = draw_chest(grid())[0].array[:, :, 20 : 20 + width]
    here, mirrored = np.array(sides(ct)), np.array(sides(ct[:, :, ::-1]))
    assert len(here) == CELLS[0] * CELLS[1] * CELLS[2] // 2
    np.testing.assert_allclose(here, -mirrored, atol=1)
    assert np.abs(here).max() > 200


def test_what_is_denser_on_the_left_is_positive_there() -> None:
    image = np.full((16, 16, 16), -1000)
    image[:4, 8:, 12:] = 3000  # low, at the back, far left; clipped to soft tissue
    cells = np.array(sides(image)).reshape(CELLS[0], CELLS[1], CELLS[2] // 2)
    assert (cells[:2, 4:, 2:] == 900).all()
    assert np.count_nonzero(cells) == cells[:2, 4:, 2:].size


def test_a_symmetrical_image_has_only_zeros() -> None:
    assert not any(sides(np.full((9, 10, 11), 40)))
