import numpy as np
import pytest

from phantom.annotate import Annotator


@pytest.mark.parametrize(("share", "low", "high"), [(0.2, 2.7, 3.4), (0.4, 5.7, 6.3), (0.05, 1.0, 1.4)])
def test_a_share_of_the_nodes_is_annotated_and_at_least_one(share, low, high):
    rng = np.random.default_rng(0)
    chosen = [Annotator(share).choose(rng, [8.0] * 15) for _ in range(400)]
    assert min(len(c) for c in chosen) >= 1
    assert low < np.mean([len(c) for c in chosen]) < high
    assert all(len(set(c)) == len(c) and set(c) <= set(range(15)) for c in chosen)


def test_large_nodes_are_annotated_more_often():
    rng = np.random.default_rng(0)
    picks = [i for _ in range(500) for i in Annotator().choose(rng, [4.0, 12.0])]
    assert picks.count(1) > 5 * picks.count(0)


def test_no_nodes_no_annotation():
    assert Annotator().choose(np.random.default_rng(0), []) == []


def squares():
    """Node 1 of 5 x 5 pixels in two slices, node 2 of 1 pixel in one slice, node 3 far away."""
    labels = np.zeros((6, 30, 30), np.uint16)
    labels[2:4, 5:10, 5:10], labels[1, 20, 20], labels[5, 25:28, 3:6] = 1, 2, 3
    return labels


def test_borders_are_exact_unless_asked_for():
    labels = squares()
    marked = Annotator().outline(np.random.default_rng(0), labels, [1, 2])
    np.testing.assert_array_equal(marked, (labels == 1) | (labels == 2))


def test_borders_are_off_by_one_to_two_voxels_in_the_plane_and_no_node_vanishes():
    """Grown by one, 5 x 5 pixels become 45 (a row of 5 at each side), shrunk by one 9, by two 1; grown by two 69."""
    counts = set()
    for seed in range(60):
        marked = Annotator(off_voxels=2).outline(np.random.default_rng(seed), squares(), [1, 2])
        assert marked[[0, 4, 5]].sum() == 0  # the slices stay
        first, second = marked[2], marked[1]
        np.testing.assert_array_equal(marked[2], marked[3])
        counts.add((int(first.sum()), int(second.sum())))
    assert {one for one, _ in counts} == {45, 69, 9, 1}
    assert {two for _, two in counts} == {1, 5, 13}  # the single pixel is never shrunk away


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((0.0, 0), "The share of annotated nodes must be above 0 and at most 1, not 0"),
        ((1.5, 0), "The share of annotated nodes must be above 0 and at most 1, not 1.5"),
        ((0.2, -1), "Borders cannot be off by -1 voxels"),
    ],
)
def test_an_annotator_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Annotator(*values)
