from __future__ import annotations

import numpy as np
import pytest

from lnq.image.volume import Volume, make_affine
from training.data.measures.shift import best_shift

SPACING_MM = (3.0, 1.5, 1.5)
SHAPE = (24, 60, 60)
CENTRES = ((8, 20, 20), (12, 40, 25), (16, 25, 42))


def balls(radius_mm: float = 7.0) -> np.ndarray:
    index = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING_MM
    inside = [np.linalg.norm(index - np.multiply(centre, SPACING_MM), axis=-1) <= radius_mm for centre in CENTRES]
    found: np.ndarray = np.any(inside, axis=0)
    return found


@pytest.fixture(scope="module")
def image() -> Volume:
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    return Volume((np.where(balls(), 70, -100) + noise).astype(np.int16), make_affine(SPACING_MM))


def test_a_label_that_lies_right_fits_best_where_it_is(image: Volume) -> None:
    for label in (balls(), balls(8.5)):
        found = best_shift(image, label)
        assert found is not None and found.best_mm == (0.0, 0.0, 0.0)
        assert found.best_edge_hu - 2 <= found.edge_hu and found.edge_hu > 60 and found.agreeing == 0.0


@pytest.mark.parametrize("step", [(1, 0, 0), (-2, 0, 0), (0, 4, 0), (0, 0, -3), (1, -3, 2)])
def test_a_moved_label_fits_best_where_it_came_from(image: Volume, step: tuple[int, int, int]) -> None:
    found = best_shift(image, np.roll(balls(), step, (0, 1, 2)))
    assert found is not None
    assert found.best_mm == tuple(-n * mm for n, mm in zip(step, SPACING_MM, strict=True))
    assert found.best_edge_hu > found.edge_hu + 40 and found.agreeing == 1.0
    assert found.best_soft > 0.95 > found.soft


def test_an_image_without_edges_fits_everywhere_alike(image: Volume) -> None:
    found = best_shift(image.with_array(np.full(SHAPE, 40, np.int16)), balls())
    assert found is not None and found.best_mm == (0.0, 0.0, 0.0) and found.edge_hu == 0.0 and found.soft == 1.0


def test_a_label_at_the_border_and_an_empty_one(image: Volume) -> None:
    corner = np.zeros(SHAPE, np.uint8)
    corner[:2, :3, -3:] = 1
    assert best_shift(image, corner) is not None
    assert best_shift(image, np.zeros(SHAPE, np.uint8)) is None
