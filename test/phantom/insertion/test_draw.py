"""What is drawn: sizes, single nodes and clusters."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantom.insertion.collection import read_collection
from phantom.insertion.draw import (
    PARAMETRIC,
    Group,
    draw_group,
    draw_groups,
    draw_size_mm,
    neighbours,
    points_within,
)


@pytest.fixture(scope="module")
def nodes(shapes):
    return read_collection(shapes)


def test_half_are_small_a_third_medium_and_a_sixth_large():
    rng = np.random.default_rng(0)
    sizes = np.array([draw_size_mm(rng) for _ in range(6000)])
    parts = np.histogram(sizes, [4, 10, 20, 60.01])[0] / 6000
    np.testing.assert_allclose(parts, [1 / 2, 1 / 3, 1 / 6], atol=0.02)
    large = sizes[sizes > 20]
    assert (large > 30).mean() == pytest.approx(np.exp(-np.log(1.5) / 0.25), abs=0.03)  # 0.2
    assert 40 < sizes.max() <= 60


@settings(max_examples=20, deadline=None)
@given(st.floats(4, 50), st.integers(0, 1000), st.booleans())
def test_the_largest_node_has_the_wanted_size(nodes, size_mm, seed, cluster):
    for collection in ((), nodes):
        group = draw_group(np.random.default_rng(seed), size_mm, cluster, collection)
        assert group.short_axis_mm == pytest.approx(size_mm, rel=1e-6)
        points = points_within(group, size_mm / 6)
        assert np.linalg.norm(points, axis=1).max() <= group.reach_mm


def test_neighbours_are_of_the_same_patient_and_nearest_first(nodes):
    assert [n.name for n in neighbours(nodes[0], nodes)] == ["001_01", "001_02"]
    assert [n.name for n in neighbours(nodes[1], nodes)] == ["001_02", "001_01"]
    assert [n.name for n in neighbours(nodes[2], nodes)] == ["002_01"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_a_cluster_of_real_nodes_keeps_its_distances(nodes, seed):
    """The two lie 11 mm apart. The larger has 12 mm, so at 24 mm they lie 22 mm apart, and level but for the tilt."""
    group = draw_group(np.random.default_rng(seed), nodes[0].short_axis_mm * 2, True, nodes[:2])
    assert sorted(m.source for m in group.members) == ["001_01", "001_02"]
    first, second = (m.offset_mm for m in group.members)
    assert np.linalg.norm(first - second) == pytest.approx(22.0, abs=1e-6)
    assert abs(first[0] - second[0]) < 22 * np.sin(4 * 0.15)
    small, large = sorted(m.shape.short_axis_mm for m in group.members)
    assert small / large == pytest.approx(nodes[1].short_axis_mm / nodes[0].short_axis_mm)


def test_too_small_nodes_of_a_cluster_are_left_out(nodes):
    """At 4 mm the other one would have 2.7 mm, less than 3."""
    group = draw_group(np.random.default_rng(0), 4.0, True, nodes[:2])
    assert [m.source for m in group.members] == ["001_01"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_parametric_clusters_touch_and_do_not_overlap(seed):
    group = draw_group(np.random.default_rng(seed), 12.0, True)
    assert 2 <= len(group.members) <= 4
    assert {m.source for m in group.members} == {PARAMETRIC}
    points = points_within(group, 0.6)
    inside = [m.shape.signed_distance(points - m.offset_mm) for m in group.members]
    for a, b in itertools.combinations(inside, 2):
        assert ((a < -0.8) & (b < -0.8)).mean() < 0.01
    for number in range(1, len(inside)):
        before = np.min(inside[:number], axis=0)
        assert np.maximum(before, inside[number]).min() < 1.0  # a point next to the surfaces of both


def test_groups_are_drawn_largest_first_until_there_are_enough(nodes):
    groups = draw_groups(np.random.default_rng(3), 40, nodes)
    assert sum(len(g.members) for g in groups) == 40
    sizes = [g.short_axis_mm for g in groups]
    assert sizes == sorted(sizes, reverse=True)
    assert 0.05 < np.mean([len(g.members) > 1 for g in groups]) < 0.5


def test_a_group_is_as_far_as_its_nearest_node(nodes):
    group = draw_group(np.random.default_rng(1), 10.0, True, nodes[:2])
    points = np.random.default_rng(2).uniform(-20, 20, (200, 3))
    of_each = [Group((m,)).signed_distance(points) for m in group.members]
    np.testing.assert_array_equal(group.signed_distance(points), np.minimum(*of_each))


def test_flat_masks_are_not_used(tmp_path, write_shapes, nodes):
    """A mask of two slices of 1 mm and 16 mm across was not drawn to its end."""
    flat = write_shapes(tmp_path, {"003_01": np.ones((2, 20, 20), bool)}, {"003_01": (0, 0, 0)})
    both = (*nodes[:1], *read_collection(flat))
    sources = {draw_group(np.random.default_rng(s), 12.0, False, both).members[0].source for s in range(12)}
    assert sources == {"001_01"}
