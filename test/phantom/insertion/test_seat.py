"""Where a node is put: in fat, beside vessels, on nothing that must stay."""

import numpy as np
import pytest

from phantom.insertion.collection import read_collection
from phantom.insertion.draw import draw_group
from phantom.insertion.push import push_of
from phantom.insertion.seat import find_seat, make_probes
from phantom.insertion.tissue import AIRWAY, BONE, DEEP, FAT, LUNG, NODE, SOFT, WALL

SPACING_MM = (2.0, 1.0, 1.0)
SIZE = (40, 80, 80)


@pytest.fixture(scope="module")
def nodes(shapes):
    return read_collection(shapes)


def probes_of(nodes, size_mm: float):
    rng = np.random.default_rng(0)
    group = draw_group(rng, size_mm, False, nodes[2:])  # a ball
    return make_probes(rng, group, push_of(size_mm), SPACING_MM)


def filled(kind: int) -> np.ndarray:
    return np.full(SIZE, kind, np.uint8)


MIDDLE = np.array([[20.0, 40.0, 40.0]])


@pytest.mark.parametrize("kind", [LUNG, SOFT, DEEP, AIRWAY, BONE, WALL, NODE])
@pytest.mark.parametrize("size_mm", [6.0, 20.0])
def test_a_node_fits_in_fat_alone(nodes, kind, size_mm):
    rng = np.random.default_rng(1)
    probes = probes_of(nodes, size_mm)
    assert find_seat(rng, probes, filled(FAT), MIDDLE) is not None
    assert find_seat(rng, probes, filled(kind), MIDDLE) is None


def test_most_nodes_touch_a_vessel_and_all_lie_in_fat(nodes):
    """A vessel fills x below 20. A node of 6 mm then lies at x = 21 to 29, mostly, of anywhere up to 70."""
    classes = filled(FAT)
    classes[:, :, :20] = SOFT
    columns = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        spots = rng.uniform([10, 20, 5], [30, 60, 70], (200, 3))
        columns.append(find_seat(rng, probes_of(nodes, 6.0), classes, spots)[2])
    assert min(columns) > 20.5
    assert np.mean(np.array(columns) < 29) > 0.8  # of random seats beside the vessel a sixth


@pytest.mark.parametrize(("size_mm", "beyond_mm", "fits"), [(24.0, 4.0, True), (24.0, 9.0, False), (7.0, 1.5, False)])
def test_only_bulky_nodes_bulge_into_the_lung(nodes, size_mm, beyond_mm, fits):
    """Of a ball of 24 mm, 7 % lie beyond a plane at 2/3 of its radius, and 32 % beyond one at a quarter."""
    classes = filled(FAT)
    classes[:, :, 50:] = LUNG
    spot = np.array([[20.0, 40.0, 49.5 + beyond_mm - size_mm / 2]])
    assert (find_seat(np.random.default_rng(0), probes_of(nodes, size_mm), classes, spot) is not None) == fits


def test_no_seat_beside_a_node_or_beyond_the_ct(nodes):
    rng, probes = np.random.default_rng(0), probes_of(nodes, 10.0)
    classes = filled(FAT)
    classes[:, :, 46:] = NODE  # 1 mm from the surface of a ball at 40
    assert find_seat(rng, probes, classes, MIDDLE) is None
    assert find_seat(rng, probes, filled(FAT), np.array([[0.0, 40.0, 40.0]])) is None


def test_every_node_of_a_cluster_has_to_fit(nodes):
    """Two nodes in a row along x, the smaller in a vessel, which is less than a third of both together."""
    rng = np.random.default_rng(2)
    group = draw_group(rng, 10.0, True, nodes[:2])
    small = min(group.members, key=lambda m: m.shape.short_axis_mm)
    classes = filled(FAT)
    z, y, x = np.rint(MIDDLE[0] + small.offset_mm / SPACING_MM).astype(int)
    probes = make_probes(rng, group, push_of(10.0), SPACING_MM)
    assert find_seat(rng, probes, classes, MIDDLE) is not None
    classes[z - 2 : z + 3, y - 3 : y + 4, x - 3 : x + 4] = DEEP
    assert find_seat(rng, probes, classes, MIDDLE) is None
