"""Draw what is inserted: a node, or a cluster of nodes that lie together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phantom.insertion.collection import CollectedNode
from phantom.insertion.sampled import sample_shape
from phantom.nodes import Shape, draw_node, rotation_of

PARAMETRIC = "parametric"  # the source of a shape that is no real node's
CLUSTERS = 0.25  # part of the draws that are clusters; bulky disease comes in clusters
TOGETHER_MM = 30.0  # nodes of a patient lie in a cluster where their centres are nearer than this
MOST_IN_CLUSTER = 5
LEAST_MM = 3.0  # short axis; smaller nodes of a cluster are left out, for a voxel or two are no shape
TILT_RAD = 0.15  # deviation of the body's axis between patients
LARGEST_MM = 60.0
# How far a short axis may be from that of the mask, as a factor, for nodes above 15 mm. Large nodes have other shapes
# than small ones, which is why small nodes are no bulky ones scaled down either.
LIKE = 1.5
SMALL_FROM_MM = 25.0
FLAT = 0.6  # least height as a part of the short axis; flatter masks were not drawn in all slices


@dataclass(frozen=True, eq=False)
class GroupedNode:
    """One node of a group."""

    shape: Shape
    offset_mm: np.ndarray  # z, y, x from the group's centre
    source: str  # name of the real node, or PARAMETRIC


@dataclass(frozen=True, eq=False)
class Group:
    """Nodes that are inserted together: one, or the members of a cluster."""

    members: tuple[GroupedNode, ...]

    @property
    def short_axis_mm(self) -> float:
        """Of its largest node."""
        return max(m.shape.short_axis_mm for m in self.members)

    @property
    def reach_mm(self) -> float:
        """All nodes lie inside this radius."""
        return max(float(np.linalg.norm(m.offset_mm)) + m.shape.reach_mm for m in self.members)

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance in mm, float32 [...], at points [..., 3], to the nearest node's surface. Negative inside."""
        distances = [m.shape.signed_distance(points - m.offset_mm.astype(np.float32)) for m in self.members]
        nearest: np.ndarray = np.min(distances, axis=0)
        return nearest


def draw_size_mm(rng: np.random.Generator) -> float:
    """Draw the short axis in mm of a node or of a cluster's largest node.

    Half are 4 to 10 mm, which most mediastinal nodes are. A third are 10 to 20 mm, each doubling as often. A sixth are
    larger, as large ones are distributed in the collection CT Lymph Nodes: a fifth of them exceed 30 mm, one in
    sixteen 40 mm. So bulky ones, which hold most of the volume, are seen often in training.
    """
    part = rng.random()
    if part < 1 / 2:
        return float(rng.uniform(4.0, 10.0))
    if part < 5 / 6:
        return float(10.0 * 2.0 ** rng.random())
    return float(min(20.0 * np.exp(rng.exponential(0.25)), LARGEST_MM))


def draw_groups(rng: np.random.Generator, count: int, collection: Sequence[CollectedNode] = ()) -> list[Group]:
    """Draw groups of together `count` nodes, the largest first, of real shapes where there is a collection."""
    groups: list[Group] = []
    left = count
    while left > 0:
        group = draw_group(rng, draw_size_mm(rng), bool(rng.random() < CLUSTERS), collection)
        groups.append(Group(group.members[:left]))
        left -= len(groups[-1].members)
    return sorted(groups, key=lambda group: -group.short_axis_mm)


def draw_group(
    rng: np.random.Generator, short_axis_mm: float, cluster: bool, collection: Sequence[CollectedNode] = ()
) -> Group:
    """Draw a node or a cluster whose largest node has this short axis, of real shapes where there is a collection."""
    if not collection:
        return _touching(rng, short_axis_mm, int(rng.integers(2, 5)) if cluster else 1)
    turned = _draw_turn(rng)
    collection = [node for node in collection if node.height_mm >= FLAT * node.short_axis_mm] or collection
    nodes = _alike(collection, short_axis_mm)
    if cluster:
        in_company = [node for node in nodes if len(neighbours(node, collection)) > 1]
        node = (in_company or nodes)[int(rng.integers(len(in_company or nodes)))]
        return _together(rng, neighbours(node, collection), short_axis_mm, turned)
    return _together(rng, [nodes[int(rng.integers(len(nodes)))]], short_axis_mm, turned)


def neighbours(node: CollectedNode, collection: Sequence[CollectedNode]) -> list[CollectedNode]:
    """The node and those of its patient whose centres lie within 30 mm of its own, nearest first, at most five."""
    distance = {
        other: float(np.linalg.norm(other.centre_mm - node.centre_mm))
        for other in collection
        if other.patient == node.patient
    }
    near = sorted((other for other in distance if distance[other] <= TOGETHER_MM), key=lambda other: distance[other])
    return near[:MOST_IN_CLUSTER]


def _alike(collection: Sequence[CollectedNode], short_axis_mm: float) -> Sequence[CollectedNode]:
    """The nodes whose shapes suit a size; the nearest in size where none do."""
    if short_axis_mm <= SMALL_FROM_MM / LIKE:
        nodes = [node for node in collection if node.short_axis_mm <= SMALL_FROM_MM]
    else:
        nodes = [node for node in collection if 1 / LIKE <= node.short_axis_mm / short_axis_mm <= LIKE]
    return nodes or [min(collection, key=lambda node: abs(node.short_axis_mm - short_axis_mm))]


def _draw_turn(rng: np.random.Generator) -> np.ndarray:
    """Any angle about the body's axis, a little tilt, and left and right exchanged half of the time, [3, 3]."""
    angles = np.array([rng.uniform(0, 2 * np.pi), *(TILT_RAD * rng.normal(size=2))])
    mirror = np.diag([1.0, 1.0, rng.choice([-1.0, 1.0])])
    turned: np.ndarray = rotation_of(angles) @ mirror
    return turned


def _together(
    rng: np.random.Generator, nodes: Sequence[CollectedNode], short_axis_mm: float, turned: np.ndarray
) -> Group:
    """Nodes of one patient as they lie, scaled alike until the largest has the short axis, without the smallest."""
    scale = short_axis_mm / max(node.short_axis_mm for node in nodes)
    nodes = [node for node in nodes if node.short_axis_mm * scale >= min(LEAST_MM, short_axis_mm)]
    centres = np.array([node.centre_mm for node in nodes])
    offsets = (centres - centres.mean(axis=0)) @ turned.T * scale
    shapes = [sample_shape(rng, node, scale, turned) for node in nodes]
    return Group(
        tuple(GroupedNode(s, offset, node.name) for s, offset, node in zip(shapes, offsets, nodes, strict=True))
    )


def _touching(rng: np.random.Generator, short_axis_mm: float, count: int) -> Group:
    """One to four parametric shapes, each of which touches one before it. The first is the largest."""
    members = [GroupedNode(draw_node(rng, short_axis_mm), np.zeros(3), PARAMETRIC)]
    for _ in range(count - 1):
        size = max(LEAST_MM, short_axis_mm * rng.uniform(0.5, 1.0))
        shape = draw_node(rng, min(size, short_axis_mm))
        members.append(GroupedNode(shape, _beside(rng, members, shape), PARAMETRIC))
    middle = np.mean([m.offset_mm for m in members], axis=0)
    return Group(tuple(GroupedNode(m.shape, m.offset_mm - middle, m.source) for m in members))


def _beside(rng: np.random.Generator, members: Sequence[GroupedNode], shape: Shape) -> np.ndarray:
    """An offset, z, y, x in mm, at which a shape touches a member and overlaps none: come near until it touches."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    start, group = members[int(rng.integers(len(members)))].offset_mm, Group(tuple(members))
    inside = points_within(shape, shape.short_axis_mm / 7)
    near, far = 0.0, group.reach_mm * 2 + shape.reach_mm
    while far - near > 0.2:
        middle = (near + far) / 2
        apart = group.signed_distance(inside + start + middle * direction).min() > 0
        near, far = (near, middle) if apart else (middle, far)
    offset: np.ndarray = start + far * direction
    return offset


def points_within(shape: Shape | Group, step_mm: float, margin_mm: float = 0.0) -> np.ndarray:
    """Points of a cubic grid inside a shape, float32 [N, 3] in mm, and those within a margin of its surface."""
    reach = shape.reach_mm + margin_mm
    axis = np.arange(-reach, reach + step_mm, step_mm, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    found: np.ndarray = grid[shape.signed_distance(grid) <= margin_mm]
    return found
