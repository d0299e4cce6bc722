from __future__ import annotations

import numpy as np
import pytest

from phantom.patient import draw_patient
from phantom.variants import VARIANTS, Maker, aneurysm, azygos_continuation, hiatal_hernia, variants


@pytest.mark.parametrize("maker", VARIANTS, ids=lambda maker: maker.__name__)
def test_a_variant_is_solid_so_that_no_node_lies_in_it(maker: Maker) -> None:
    found = maker(draw_patient(np.random.default_rng(0)), np.random.default_rng(0))
    assert found and all(structure.solid for structure in found)


def test_an_aneurysm_is_44_to_54_mm_wide_and_a_continued_azygos_vein_15_to_19() -> None:
    for seed in range(10):
        patient, rng = draw_patient(np.random.default_rng(seed)), np.random.default_rng(seed)
        assert 44 <= 2 * aneurysm(patient, rng)[0].tubes[0].radius.max() <= 54
        radius = azygos_continuation(patient, rng)[0].tubes[0].radius
        assert radius.min() >= 7.5 and radius.max() <= 9.5


def test_a_hernia_has_a_wall_of_3_5_mm() -> None:
    patient, rng = draw_patient(np.random.default_rng(1)), np.random.default_rng(1)
    wall, content, *_ = hiatal_hernia(patient, rng)
    axes = [1.0 / np.diag(one.blobs[0].ellipsoid.matrix) for one in (wall, content)]
    np.testing.assert_allclose(axes[0] - axes[1], 3.5)


def test_two_or_three_are_drawn_each_once() -> None:
    patient = draw_patient(np.random.default_rng(2))
    for seed in range(20):
        names = [structure.name for structure in variants(patient, np.random.default_rng(seed))]
        assert len(names) == len(set(names))
        assert 2 <= len({name.split("'")[0].split(" ")[0] for name in names}) <= 3
