import numpy as np

from phantom.annotate import choose_partial


def test_about_one_node_in_five_is_annotated_and_at_least_one():
    rng = np.random.default_rng(0)
    chosen = [choose_partial(rng, [8.0] * 15) for _ in range(400)]
    assert min(len(c) for c in chosen) == 1
    assert 2.7 < np.mean([len(c) for c in chosen]) < 3.4
    assert all(len(set(c)) == len(c) and set(c) <= set(range(15)) for c in chosen)


def test_large_nodes_are_annotated_more_often():
    rng = np.random.default_rng(0)
    picks = [i for _ in range(500) for i in choose_partial(rng, [4.0, 12.0])]
    assert picks.count(1) > 5 * picks.count(0)


def test_no_nodes_no_annotation():
    assert choose_partial(np.random.default_rng(0), []) == []
