"""The recall of annotated nodes at a number of marks, by hand on drawn probabilities."""

from __future__ import annotations

import numpy as np

from training.scoring.partial_labels import Recall, best_outline, best_recall, mark_at_all, only_annotated
from training.scoring.tune import Marked

SHAPE = (6, 12, 30)
THRESHOLDS = (0.2, 0.5)


def case(*blocks: tuple[int, float], nodes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Cubes of 27 voxels: (x, probability) of marks, and x of annotated nodes."""
    probability, node = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    for x, p in blocks:
        probability[1:4, 1:4, x : x + 3] = p
    for x in nodes:
        node[1:4, 1:4, x : x + 3] = 1
    return probability, node


A = case((0, 0.9), (6, 0.3), (12, 0.6), nodes=(0, 6))
B = case((0, 0.9), (9, 0.85), (18, 0.7), nodes=(1,))  # two thirds of the node are marked


def best(marks: float, *cases: tuple[np.ndarray, np.ndarray], least_mm3: float = 0.0) -> Recall:
    found = [mark_at_all(probability, node, 2.0, least_mm3, THRESHOLDS) for probability, node in cases]
    return best_recall(found, marks, THRESHOLDS)


def test_as_many_nodes_are_found_as_the_number_of_marks_allows() -> None:
    """At 0.2 all six blocks are marks, three per case. At 0.5, five. With a peak of 0.8 three, of 0.9 two."""
    assert best(3.0, A, B) == Recall(0.2, 0.0, 3, 3, (27 + 27 + 18) / 81, 3.0)
    assert best(2.5, A, B) == Recall(0.2, 0.9, 3, 2, 45 / 81, 1.0)
    assert best(1.0, A, B) == Recall(0.2, 0.9, 3, 2, 45 / 81, 1.0)


def test_a_network_that_marks_more_at_every_threshold_finds_nothing() -> None:
    found = best_recall([mark_at_all(np.ones(SHAPE, np.float32), A[1], 1.0, 0.0, THRESHOLDS)], 0.5, THRESHOLDS)
    assert (found.found, found.covered, found.nodes, found.marks_per_case) == (0, 0.0, 2, 1.0)


def test_of_equal_recalls_more_voxels_win_and_then_fewer_marks() -> None:
    probability, node = case((0, 0.9), (12, 0.4), nodes=(0,))
    probability[1:4, 1:4, 2] = 0.3  # a third of the node is found at 0.2 alone
    found = best(5.0, (probability, node))
    assert (found.threshold, found.covered, found.marks_per_case) == (0.2, 1.0, 1.0) and found.peak_threshold == 0.6


def test_small_marks_do_not_count() -> None:
    """A cube of 27 voxels of 2 mm3 has 54 mm3."""
    assert best(9.0, A, least_mm3=53.0).found == 2
    assert best(9.0, A, least_mm3=54.0).found == 0


def test_cases_without_an_annotated_node_count_their_marks_alone() -> None:
    empty = case((0, 0.9), (6, 0.9), nodes=())
    found = best(2.0, A, empty)
    assert (found.nodes, found.found, found.marks_per_case) == (2, 1, 1.5)


def test_nodes_that_are_not_annotated_count_as_all_else() -> None:
    whole = Marked(np.array([10, 20, 30]), np.array([0.9, 0.8]), np.array([[1, 2, 3, 4], [5, 6, 7, 8]]))
    partly = only_annotated(whole, [True, False, True])
    np.testing.assert_array_equal(partly.node_voxels, [10, 30])
    np.testing.assert_array_equal(partly.overlaps, [[4, 2, 4], [12, 6, 8]])
    np.testing.assert_array_equal(partly.peaks, whole.peaks)


def test_the_best_outline_is_that_of_annotated_nodes_alone() -> None:
    """A node of 27 voxels with a rim of 27: at 0.2 Dice is 2 * 27 / (54 + 27), at 0.5 it is 1, at 0.7 nothing is left.

    What is marked elsewhere, at 0.5 as much as one likes, changes nothing.
    """
    probability, node = case((3, 0.3), (0, 0.6), (12, 0.6), (20, 0.6), nodes=(0,))
    levels = (0.2, 0.5, 0.7)
    assert best_outline([mark_at_all(probability, node, 1.0, 0.0, levels)], levels) == 0.5
    levels = (0.2, 0.7)
    assert best_outline([mark_at_all(probability, node, 1.0, 0.0, levels)], levels) == 0.2


def test_of_equally_good_outlines_the_highest_threshold_is_chosen() -> None:
    probability, node = case((0, 0.9), nodes=(0,))
    levels = (0.2, 0.5, 0.8, 0.95)
    assert best_outline([mark_at_all(probability, node, 1.0, 0.0, levels)], levels) == 0.8
