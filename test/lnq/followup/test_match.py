"""Nodes are matched as a reader of both CTs would, and their order never matters."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.followups import balls
from hypothesis import given, settings
from hypothesis import strategies as st

from lnq.followup.match import Match, Place, _weighted_median, match_nodes, places_of
from lnq.image.volume import Volume, make_affine

GRID = Volume(np.zeros((60, 60, 60), np.uint8), make_affine((2.0, 2.0, 2.0), (-60.0, -60.0, -60.0)))


def places(*nodes: tuple[tuple[float, float, float], float]) -> list[Place]:
    """Balls by centre (L, P, S) and radius in mm, numbered from 1 in this order."""
    labels = np.zeros(GRID.shape, np.int16)
    for number, node in enumerate(nodes, start=1):
        labels[balls(GRID, node).array > 0] = number
    return places_of(GRID.with_array(labels))


def matched(earlier: list[Place], later: list[Place]) -> set[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    return {(match.state, match.earlier, match.later) for match in match_nodes(earlier, later)}


def test_places_are_in_the_patient():
    one, two = places(((10, -20, 30), 6), ((-30, 0, 0), 4))
    assert (one.number, two.number) == (1, 2)
    assert np.allclose(one.centre_mm, (10, -20, 30)) and one.diameter_mm == pytest.approx(12, abs=0.5)
    assert one.reach_mm == pytest.approx(6, abs=0.01)


def test_a_node_that_moved_a_little_and_grew_is_the_same():
    assert matched(places(((0, 0, 0), 5)), places(((3, 2, -2), 8))) == {("same", (1,), (1,))}


def test_a_node_far_away_is_another():
    assert matched(places(((0, 0, 0), 5)), places(((25, 0, 0), 5))) == {("gone", (1,), ()), ("new", (), (1,))}


def test_of_neighbours_each_finds_its_own():
    """All have moved by the half of their distance, so the nearest one alone would be wrong."""
    first = places(*(((x, 0, 0), 4) for x in (-30, -18, -6)))
    second = places(*(((x + 6.5, 0, 0), 4) for x in (-30, -18, -6)))
    assert matched(first, second) == {("same", (n,), (n,)) for n in (1, 2, 3)}


def test_two_nodes_that_grow_together_have_merged():
    first = places(((0, 0, 0), 6), ((15, 0, 0), 5))
    labels = balls(GRID, ((0, 0, 0), 8), ((14, 0, 0), 7))
    assert matched(first, places_of(labels)) == {("merged", (1, 2), (1,))}
    assert matched(places_of(labels), first) == {("split", (1,), (1, 2))}


def test_a_small_node_is_swallowed_by_a_large_one():
    first = places(((0, 0, 0), 12), ((13, 0, 0), 2))
    assert matched(first, places(((0, 0, 0), 16))) == {("merged", (1, 2), (1,))}


def test_a_neighbour_of_a_node_that_is_gone_did_not_swallow_it():
    first = places(((0, 0, 0), 6), ((17, 0, 0), 6))
    assert matched(first, places(((0, 0, 0), 7))) == {("same", (1,), (1,)), ("gone", (2,), ())}


def test_without_nodes_there_is_nothing_to_match():
    one = places(((0, 0, 0), 6))
    assert matched([], []) == set()
    assert matched(one, []) == {("gone", (1,), ())}
    assert matched([], one) == {("new", (), (1,))}
    assert places_of(GRID) == []


@pytest.mark.parametrize(
    ("earlier", "later", "state"),
    [((1,), (2,), "same"), ((), (1,), "new"), ((1,), (), "gone"), ((1, 2, 3), (1,), "merged"), ((4,), (1, 2), "split"),
     ((1, 2), (1, 2), "regrouped")],
)  # fmt: skip
def test_a_state_follows_from_the_numbers_of_both(earlier, later, state):
    assert Match(earlier, later).state == state


@pytest.mark.parametrize("shift_mm", range(12))
def test_a_small_node_among_large_ones_that_moved_with_it_is_the_same(shift_mm):
    """Alone it could move by 6 mm; its neighbours tell where it went to."""
    first = places(*(((x, y, 0), 7) for x, y in ((-25, 0), (25, 0), (0, 25), (0, -25))), ((0, 0, 0), 2))
    moved = [Place(one.number, one.points_mm + np.array([shift_mm, 0.0, 0.0]), one.voxel_mm) for one in first]
    assert matched(first, moved) == {("same", (n,), (n,)) for n in range(1, 6)}


SITES = [(x, y, z) for x in (-35, 0, 35) for y in (-35, 0, 35) for z in (-35, 0, 35)]


@settings(max_examples=25, deadline=None)
@given(
    sites=st.lists(st.sampled_from(SITES), min_size=1, max_size=7, unique=True),
    order=st.randoms(use_true_random=False),
    shift=st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_nodes_that_moved_together_are_the_same_in_any_order(sites, order, shift):
    first = places(*((site, 6) for site in sites))
    moved = [Place(one.number, one.points_mm + shift, one.voxel_mm) for one in first]
    order.shuffle(moved)
    assert matched(first, moved) == {("same", (one.number,), (one.number,)) for one in first}


def test_matches_are_in_the_order_of_the_later_nodes():
    first = places(((-30, 0, 0), 5), ((30, 0, 0), 5), ((0, 30, 0), 5))
    second = places(((30, 0, 0), 5), ((0, -30, 0), 5), ((-30, 0, 0), 5))
    assert [(match.earlier, match.later) for match in match_nodes(first, second)] == [
        ((2,), (1,)), ((), (2,)), ((1,), (3,)), ((3,), ()),
    ]  # fmt: skip


def test_a_wrong_pair_does_not_drag_its_neighbours_along():
    """Node 4 is gone, and a new one lies 9 mm beside it; where it seems to have moved to says nothing of the others."""
    still = [((x, y, 0), 5) for x, y in ((-20, 0), (0, 0), (20, 0))]
    first = places(*still, ((0, 20, 0), 8))
    second = places(*still, ((0, 29, 0), 8))
    assert {("same", (n,), (n,)) for n in (1, 2, 3)} < matched(first, second)


@pytest.mark.parametrize(
    ("values", "weights", "wanted"),
    [([1.0, 2.0, 9.0], [1.0, 1.0, 1.0], 2.0), ([1.0, 2.0, 9.0], [5.0, 1.0, 1.0], 1.0), ([9.0, 1.0], [1.0, 3.0], 1.0)],
)
def test_the_weighted_median_by_hand(values, weights, wanted):
    assert _weighted_median(np.array(values)[:, None], np.array(weights)).tolist() == [wanted]
