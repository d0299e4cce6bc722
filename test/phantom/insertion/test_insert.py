"""Nodes inserted into a CT: where they lie, what they look like, and what stays untouched."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from lnq.nodes.measure import axes_mm
from phantom.insertion.collection import read_collection
from phantom.insertion.draw import PARAMETRIC
from phantom.insertion.insert import UNKNOWN, insert_nodes
from phantom.insertion.push import push_of
from phantom.insertion.tissue import AIRWAY, BONE, LUNG
from phantom.stations import STATIONS


@pytest.fixture(scope="module", params=["parametric", "real"])
def collection(request, shapes):
    return read_collection(shapes) if request.param == "real" else ()


@pytest.fixture(scope="module")
def inserted(background, collection):
    return insert_nodes(background, 5, 14, collection)


def test_nodes_are_labelled_and_described(background, collection, inserted):
    ct, labels, nodes = inserted
    assert (ct.array.dtype, labels.array.dtype) == (np.int16, np.uint16)
    assert len(nodes) >= 7
    assert sorted(set(np.unique(labels.array)) - {0}) == [n.label for n in nodes]
    assert {n.station for n in nodes} <= set(STATIONS)
    assert {n.source for n in nodes} <= ({n.name for n in collection} or {PARAMETRIC})
    clusters = Counter(n.cluster for n in nodes if n.cluster is not None)
    assert all(count > 1 for count in clusters.values())
    assert list(clusters) == list(range(1, len(clusters) + 1))
    assert np.array_equal(ct.affine, background.ct.affine)


def test_nodes_are_as_large_as_they_say(background, inserted):
    """Pixels have 1.6 mm and slices 4 mm, so that small nodes are a few voxels."""
    _, labels, nodes = inserted
    measured = 0
    for node, box in zip(nodes, ndimage.find_objects(labels.array), strict=True):
        if node.short_axis_mm >= 9.0:
            short_mm, _ = axes_mm(labels.array[box] == node.label, background.ct.spacing_mm)
            assert short_mm == pytest.approx(node.short_axis_mm, rel=0.3)
            measured += 1
    assert measured >= 2


def test_nodes_have_soft_tissues_hu(background, inserted):
    ct, labels, nodes = inserted
    for node in nodes:
        inside = ndimage.binary_erosion(labels.array == node.label, np.ones((1, 3, 3)))
        if node.kind == "plain" and inside.sum() > 40:
            assert abs(np.median(ct.array[inside]) - background.soft_hu) < 25


def test_nodes_lie_neither_in_lung_nor_on_airways_and_bone(background, inserted):
    _, labels, nodes = inserted
    for node in nodes:
        kinds = background.classes[labels.array == node.label]
        assert (kinds == LUNG).mean() < 0.45
        assert np.isin(kinds, (AIRWAY, BONE)).mean() < 0.1


def test_the_ct_stays_bit_for_bit_beyond_the_push(background, inserted):
    ct, labels, nodes = inserted
    changed = ct.array != background.ct.array
    for node in nodes:
        away = ndimage.distance_transform_edt(labels.array != node.label, background.ct.spacing_mm)
        # of a cluster the largest node's push counts, so it is looked up among all
        reach = max(push_of(n.short_axis_mm).limit_mm for n in nodes if n.cluster == node.cluster or n is node)
        changed &= away > reach + 10
    assert not changed.any()
    assert (ct.array[background.classes == AIRWAY] != background.ct.array[background.classes == AIRWAY]).mean() < 0.15


def test_the_same_seed_gives_the_same_case(background, collection):
    first, second = (insert_nodes(background, 7, 4, collection) for _ in range(2))
    assert np.array_equal(first[0].array, second[0].array)
    assert first[2] == second[2]
    other = insert_nodes(background, 8, 4, collection)
    assert not np.array_equal(first[1].array, other[1].array)


def test_without_a_carina_nodes_lie_in_mediastinal_fat(background):
    """Which is about where the middle of a node of at least 4 mm is then."""
    _, _, nodes = insert_nodes(dataclasses.replace(background, carina=None), 2, 6)
    assert nodes and {n.station for n in nodes} == {UNKNOWN}
    for node in nodes:
        away = (background.candidates - node.centre) * background.ct.spacing_mm
        assert np.linalg.norm(away, axis=1).min() < 10


def test_no_more_nodes_than_asked_for(background, collection):
    assert all(len(insert_nodes(background, seed, 2, collection)[2]) <= 2 for seed in range(3))
