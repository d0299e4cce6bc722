"""Match the nodes of two aligned CTs: which of the earlier nodes became which of the later ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from lnq.followup.register import Alignment
from lnq.image.volume import Volume, bounding_box

State = Literal["same", "new", "gone", "merged", "split", "regrouped", "outside"]
STATES: tuple[State, ...] = get_args(State)

_REACH_MM = 5.0  # farthest that a node's centre lies from its place, for nodes of no size
_OF_SIZE = 0.25  # and this part of both nodes' mean diameters more
_ROUNDS = 3  # of matching, each after the last one's pairs have corrected the places
_LOCAL_MM = 35.0  # how far a pair's offset tells those of others
_STIFF = 1.0  # how many pairs without offset the alignment itself counts as
_TOUCH_MM = 2.0  # what lies so near to a node counts as within it
_WITHIN_MM, _OUTSIDE_MM = 1.0, 4.0  # cost of a node that lies within another one, and more for its part outside
_WITHIN = 0.5  # least part of a node within another one that it merged into or was split from
_FARTHER = 0.1  # of the distance, by which of two nodes that overlap a third one the nearer is its pair
_FAR = 1e6


@dataclass(frozen=True)
class Match:
    """Nodes of the two CTs, by number, that are one another. A new node has no earlier one, one that is gone no later.

    More than one on one side have merged or are what another was split into; more than one on both are regrouped. A
    node that is in one CT alone, at a place that the other does not show, is outside.
    """

    earlier: tuple[int, ...]
    later: tuple[int, ...]
    is_outside: bool = False

    @property
    def state(self) -> State:
        if self.is_outside:
            return "outside"
        counts = min(len(self.earlier), 2), min(len(self.later), 2)
        states: dict[tuple[int, int], State] = {
            (1, 1): "same", (0, 1): "new", (1, 0): "gone", (2, 1): "merged", (1, 2): "split", (2, 2): "regrouped",
        }  # fmt: skip
        return states[counts]


@dataclass(frozen=True, eq=False)
class Place:
    """Where a node lies."""

    number: int
    points_mm: np.ndarray  # [N, 3], (L, P, S) of its voxels' centres
    voxel_mm: tuple[float, float, float]  # sides of its voxels

    @cached_property
    def volume_mm3(self) -> float:
        return len(self.points_mm) * float(np.prod(self.voxel_mm))

    @cached_property
    def centre_mm(self) -> np.ndarray:
        centre: np.ndarray = self.points_mm.mean(axis=0)
        return centre

    @cached_property
    def reach_mm(self) -> float:
        """Farthest point from the centre."""
        return float(np.linalg.norm(self.points_mm - self.centre_mm, axis=1).max())

    @cached_property
    def tree(self) -> KDTree:
        """Finds the points that lie near others."""
        return KDTree(self.points_mm)

    @property
    def diameter_mm(self) -> float:
        """That of a ball of its volume."""
        return float(np.cbrt(6 * self.volume_mm3 / np.pi))


def places_of(labels: Volume) -> list[Place]:
    """Where each node lies. `labels` holds each node's number in its voxels."""
    if not labels.array.any():
        return []
    part = labels.crop(bounding_box(labels.array))
    index = np.argwhere(part.array > 0)
    points = index @ part.affine[:3, :3].T + part.affine[:3, 3]
    numbers = part.array[tuple(index.T)]
    return [
        Place(number, points[numbers == number], part.spacing_mm) for number in np.unique(numbers[numbers > 0]).tolist()
    ]


def aligned_places(labels: Volume, alignment: Alignment) -> list[Place]:
    """Where each node of the earlier CT lies in the later one."""
    return [replace(place, points_mm=alignment.apply(place.points_mm)) for place in places_of(labels)]


def match_nodes(earlier: Sequence[Place], later: Sequence[Place]) -> list[Match]:
    """Match nodes. The earlier ones' places are those in the later CT, after the alignment.

    Pairs are those with the least cost in all. Their offsets then correct the places of nodes nearby, which the breath
    moves alike, and all are paired again. A node without a partner of which at least half lies within another node has
    merged into it, or was split from it.
    """
    links: set[tuple[int, int]] = set()
    pairs: list[tuple[int, int]] = []
    for _ in range(_ROUNDS if earlier and later else 0):
        moved = _corrected(earlier, later, pairs)
        shares = _Shares.between(moved, later)
        pairs = _pairs(moved, later, shares)
        links = {*pairs, *shares.links(pairs)}
    return _groups(links, earlier, later)


def _pairs(earlier: Sequence[Place], later: Sequence[Place], shares: _Shares) -> list[tuple[int, int]]:
    """Indices of the nodes that are each other, at the least cost in mm over all nodes.

    A pair costs the distance of the centres. A node without partner costs half of what a pair may cost. Where one lies
    within another, both costs fall with the part of it that does; of two such pairs, the nearer one is cheaper.
    """
    alone = [np.array([_REACH_MM / 2 + _OF_SIZE * node.diameter_mm for node in nodes]) for nodes in (earlier, later)]
    within = _cost_within(shares.of_earlier), _cost_within(shares.of_later)
    apart = np.array([[np.linalg.norm(a.centre_mm - b.centre_mm) for b in later] for a in earlier])
    count = len(earlier), len(later)
    cost = np.full((sum(count), sum(count)), _FAR)
    cost[: count[0], : count[1]] = np.minimum(apart, np.minimum(*within)) + _FARTHER * apart
    cost[range(count[0]), range(count[1], sum(count))] = np.minimum(alone[0], within[0].min(axis=1))
    cost[range(count[0], sum(count)), range(count[1])] = np.minimum(alone[1], within[1].min(axis=0))
    cost[count[0] :, count[1] :] = 0.0
    rows, columns = linear_sum_assignment(cost)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if i < count[0] and j < count[1]]


def _cost_within(share: np.ndarray) -> np.ndarray:
    """In mm, of nodes of which these parts lie within another one."""
    return np.where(share >= _WITHIN, _WITHIN_MM + _OUTSIDE_MM * (1 - share), _FAR)


def _corrected(earlier: Sequence[Place], later: Sequence[Place], pairs: Sequence[tuple[int, int]]) -> list[Place]:
    """The earlier places, each moved by the weighted median offset of the pairs around it, its own left out."""
    centres = np.array([place.centre_mm for place in earlier])
    offsets = np.array([later[j].centre_mm - earlier[i].centre_mm for i, j in pairs] + [np.zeros(3)])
    moved = []
    for index, place in enumerate(earlier):
        apart_mm = np.array([np.linalg.norm(centres[i] - place.centre_mm) for i, _ in pairs])
        weights = np.exp(-0.5 * (apart_mm / _LOCAL_MM) ** 2) * [i != index for i, _ in pairs]
        offset = _weighted_median(offsets, np.append(weights, _STIFF))
        moved.append(replace(place, points_mm=place.points_mm + offset))
    return moved


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Along the first axis of values [N, K], each column by itself, with weights [N]."""
    order = np.argsort(values, axis=0)
    sums = np.cumsum(weights[order], axis=0)
    first = (sums >= weights.sum() / 2).argmax(axis=0)
    return np.take_along_axis(values, np.take_along_axis(order, first[None], axis=0), axis=0)[0]


@dataclass(frozen=True, eq=False)
class _Shares:
    """The part of each node that lies within each node of the other CT, or as near to it as `_TOUCH_MM`."""

    of_earlier: np.ndarray  # [earlier, later]
    of_later: np.ndarray  # [earlier, later]

    @classmethod
    def between(cls, earlier: Sequence[Place], later: Sequence[Place]) -> _Shares:
        shares = [np.zeros((len(earlier), len(later))) for _ in range(2)]
        for i, node in enumerate(earlier):
            for j, other in enumerate(later):
                shares[0][i, j], shares[1][i, j] = _share_within(node, other), _share_within(other, node)
        return cls(*shares)

    def links(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """From each node without a partner to the node that holds most of it, if that is enough."""
        paired = {i for i, _ in pairs}, {j for _, j in pairs}
        own = {(i, int(share.argmax())) for i, share in enumerate(self.of_earlier) if share.max() >= _WITHIN}
        other = {(int(share.argmax()), j) for j, share in enumerate(self.of_later.T) if share.max() >= _WITHIN}
        return {(i, j) for i, j in own if i not in paired[0]} | {(i, j) for i, j in other if j not in paired[1]}


def _share_within(node: Place, other: Place) -> float:
    reach_mm = _TOUCH_MM + max(other.voxel_mm) / 2
    if np.linalg.norm(node.centre_mm - other.centre_mm) > node.reach_mm + other.reach_mm + reach_mm:
        return 0.0
    distance, _ = other.tree.query(node.points_mm, distance_upper_bound=reach_mm)
    return float(np.mean(np.isfinite(distance)))


def _groups(links: set[tuple[int, int]], earlier: Sequence[Place], later: Sequence[Place]) -> list[Match]:
    """The nodes that links join, in the order of the later ones; those that are gone come last."""
    groups = [({i}, {j}) for i, j in links]
    joined: list[tuple[set[int], set[int]]] = []
    for own_earlier, own_later in groups:
        touching = [group for group in joined if group[0] & own_earlier or group[1] & own_later]
        joined = [group for group in joined if not any(group is other for other in touching)]
        joined.append(
            (own_earlier.union(*(group[0] for group in touching)), own_later.union(*(group[1] for group in touching)))
        )
    seen = set().union(*(group[0] for group in joined)), set().union(*(group[1] for group in joined))
    joined += [(set(), {j}) for j in range(len(later)) if j not in seen[1]]
    joined += [({i}, set()) for i in range(len(earlier)) if i not in seen[0]]
    matches = [
        Match(tuple(sorted(earlier[i].number for i in own_earlier)), tuple(sorted(later[j].number for j in own_later)))
        for own_earlier, own_later in joined
    ]
    return sorted(matches, key=lambda match: (not match.later, match.later or match.earlier))
