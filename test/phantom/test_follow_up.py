"""Pairs of phantoms: one patient, whose nodes have a known history."""

from __future__ import annotations

import numpy as np
import pytest

from lnq.image import components
from phantom.follow_up import Scaled, Visit, make_follow_up
from phantom.nodes import draw_node

GRID = {"spacing_mm": (4.0, 2.5, 2.5)}


@pytest.fixture(scope="module")
def visits() -> tuple[Visit, Visit]:
    return make_follow_up(7004, **GRID)


def numbers(visit: Visit) -> set[int]:
    return set(np.unique(visit.nodes.array).tolist()) - {0}


def centre_mm(visit: Visit, number: int) -> np.ndarray:
    index = np.argwhere(visit.nodes.array == number).mean(axis=0)
    return (visit.nodes.affine @ [*index, 1.0])[:3]


def test_most_nodes_are_in_both_and_some_in_one_alone(visits):
    first, second = map(numbers, visits)
    assert len(first & second) >= 3 and first - second and second - first


def test_nodes_move_with_the_patient(visits):
    """So distances between nodes stay, but for growth and breath, while their places in the image do not."""
    both = sorted(numbers(visits[0]) & numbers(visits[1]))
    earlier, later = (np.array([centre_mm(visit, number) for number in both]) for visit in visits)
    apart = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (earlier, later)]
    assert np.abs(apart[0] - apart[1]).max() < 0.15 * apart[0].max() + 4
    assert np.linalg.norm(earlier - later, axis=1).min() > 2.0


def test_nodes_grow_and_shrink(visits):
    both = numbers(visits[0]) & numbers(visits[1])
    ratios = [
        np.count_nonzero(visits[1].nodes.array == n) * visits[1].nodes.voxel_volume_mm3
        / (np.count_nonzero(visits[0].nodes.array == n) * visits[0].nodes.voxel_volume_mm3)
        for n in both
    ]  # fmt: skip
    assert max(ratios) > 1.2 or min(ratios) < 0.8


def test_some_nodes_grow_together(visits):
    """Of this seed, nodes lie apart in one CT that are one component in the other."""
    joined = []
    for visit in visits:
        labels, count = components.label(visit.nodes.array > 0)
        held = [set(np.unique(visit.nodes.array[labels == k]).tolist()) for k in range(1, count + 1)]
        joined.append({tuple(sorted(own)) for own in held if len(own) > 1})
    assert joined[0] != joined[1]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_pair(visits):
    again = make_follow_up(7004, **GRID)
    for one, other in zip(visits, again, strict=True):
        assert np.array_equal(one.ct.array, other.ct.array) and np.array_equal(one.nodes.array, other.nodes.array)
        assert one.phase == other.phase


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.8])
def test_a_scaled_node_is_the_same_node_of_another_size(factor):
    shape = draw_node(np.random.default_rng(3), 12.0, "necrotic")
    scaled = Scaled(shape, factor)
    points = np.random.default_rng(0).uniform(-10, 10, (200, 3))
    assert np.allclose(scaled.signed_distance(factor * points), factor * shape.signed_distance(points), atol=1e-4)
    assert scaled.short_axis_mm == pytest.approx(12.0 * factor) and scaled.reach_mm == factor * shape.reach_mm
    assert scaled.kind == "necrotic"
    assert np.allclose(scaled.render(factor * points)[1], shape.render(points)[1], atol=1e-3)
