import numpy as np

from training.scoring.froc import found_at
from training.scoring.tune import Marked


def case(nodes, *components):
    """Of nodes' voxels, and of components: each its peak, and its voxels outside nodes and in each."""
    peaks = np.array([peak for peak, _ in components], float)
    overlaps = np.array([voxels for _, voxels in components], int).reshape(len(components), len(nodes) + 1)
    return Marked(np.array(nodes), peaks, overlaps)


ONE = case([10, 10, 10], (0.9, (0, 8, 0, 0)), (0.8, (5, 0, 0, 0)), (0.7, (2, 0, 9, 0)), (0.6, (7, 0, 0, 0)))
OTHER = case([10], (0.95, (9, 0)), (0.5, (0, 6)))


def test_as_many_wrong_marks_as_are_allowed_are_made():
    for allowed, found in (
        (0.0, [False, False, False, False]),  # the second case's highest is wrong
        (0.5, [True, False, False, False]),  # one: above 0.8
        (1.0, [True, True, False, False]),  # two: above 0.6
        (1.5, [True, True, False, True]),  # three: all
        (9.0, [True, True, False, True]),
    ):
        assert found_at([[ONE], [OTHER]], allowed) == found


def test_a_component_as_high_as_a_wrong_one_is_not_kept():
    tie = case([10], (0.9, (4, 0)), (0.9, (0, 9)))
    assert found_at([[tie]], 0) == [False]
    assert found_at([[tie]], 1) == [True]


def test_the_threshold_that_finds_most_is_taken():
    strict, loose = case([10, 10], (0.9, (0, 3, 0))), case([10, 10], (0.9, (0, 8, 6)), (0.7, (4, 0, 0)))
    assert found_at([[strict, loose]], 0) == [True, True]
    assert found_at([[loose, strict]], 0) == [True, True]


def test_a_fifth_of_a_node_is_enough_and_may_come_from_several_components():
    few = case([10, 10], (0.9, (0, 2, 1)), (0.8, (0, 0, 1)))
    assert found_at([[few]], 0) == [True, True]
    assert found_at([[case([10], (0.9, (0, 1)))]], 0) == [False]


def test_without_any_mark_nothing_is_found():
    assert found_at([[case([10])]], 5) == [False]
