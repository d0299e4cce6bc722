"""Insert nodes, real ones' shapes or parametric ones, into the mediastinum of a real chest CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lnq.image.volume import Volume
from phantom.insertion.background import Background
from phantom.insertion.block import draw_texture
from phantom.insertion.collection import CollectedNode
from phantom.insertion.draw import Group, draw_group, draw_groups
from phantom.insertion.fit import FittedGroup, box_around, fit_group
from phantom.insertion.push import Push, displacement_mm, push_of, pushed
from phantom.insertion.seat import TRIES, find_seat, make_probes
from phantom.insertion.tissue import NODE
from phantom.nodes import draw_node_hu
from phantom.stations import draw_station, spots_around

SHAPES = 7  # that are tried for a node or cluster
LOYAL, OTHERS = 3, 4  # so many shapes at the drawn station alone, lest roomy ones win; the rest at so many others too
FULL_SIZE = 4  # so many shapes have the wanted size; each one after them is smaller and a cluster has a node less
SMALLER = 0.9
WIDER = 0.3  # of the short axis: how much wider than small nodes large ones are spread around a station
UNCONTRASTED_HU = (5.0, 10.0)  # spread, and most, of a node's HU around the CT's own soft tissue without contrast
IN_CLUSTER_HU = 4.0  # spread of the nodes of one cluster
LEAST_SEEN = 0.35  # labelled volume as a part of a ball's that has the node's short axis
UNKNOWN = "unknown"  # station in a CT whose carina was not found


@dataclass(frozen=True)
class InsertedNode:
    """One node that was put into a CT."""

    label: int  # its value among the labels
    short_axis_mm: float
    centre: tuple[int, int, int]  # index z, y, x
    station: str  # of phantom.stations, or UNKNOWN
    kind: str  # one of phantom.nodes.KINDS
    source: str  # name of the real node whose shape it has, or "parametric"
    cluster: int | None  # number of its cluster in this CT, from 1; None where it lies alone


@dataclass(frozen=True, eq=False)
class Seated:
    """A group in its place."""

    group: Group
    push: Push
    fitted: FittedGroup
    centre: np.ndarray  # index z, y, x
    station: str


def insert_nodes(
    background: Background, seed: int, count: int, collection: Sequence[CollectedNode] = ()
) -> tuple[Volume, Volume, list[InsertedNode]]:
    """Insert up to `count` nodes of random shape and size. The same seed gives the same nodes.

    Shapes are those of `collection` (phantom.insertion.collection), or parametric where it is empty. Returns the CT
    (int16), labels (uint16, 1 to n) and the nodes. Nodes overlap no other, but those of a cluster may touch. The CT
    stays as it is beyond the push of each node (phantom.insertion.push).
    """
    rng = np.random.default_rng(seed)
    ct = background.ct.array.astype(np.float32)
    classes, labels = background.classes.copy(), np.zeros(ct.shape, np.uint16)
    nodes: list[InsertedNode] = []
    clusters = 0
    for group in draw_groups(rng, count, collection):  # large ones need the most room, so they come first
        seated = _seat(rng, background, classes, group, collection)
        if seated is None:
            continue
        clusters += len(seated.group.members) > 1
        _make_room(ct, classes, seated, background)
        _fill(rng, ct, seated, background)
        nodes += _mark(labels, classes, seated, len(nodes), clusters)
    ct = np.clip(np.rint(ct), -1024, 3071).astype(np.int16)
    return background.ct.with_array(ct), background.ct.with_array(labels), nodes


def _seat(
    rng: np.random.Generator,
    background: Background,
    classes: np.ndarray,
    group: Group,
    collection: Sequence[CollectedNode],
) -> Seated | None:
    """A group where it fits, or one like it, at last smaller and with fewer nodes. None where none fits."""
    size_mm, most = group.short_axis_mm, len(group.members)
    wanted = _draw_station(rng, background)
    for shape in range(SHAPES):
        if shape > 0:
            fewer = max(0, shape - FULL_SIZE + 1)
            left = max(1, most - fewer)
            group = draw_group(rng, size_mm * SMALLER**fewer, left > 1, collection)
            group = Group(group.members[:left])
        others = [_draw_station(rng, background) for _ in range(OTHERS)] if shape >= LOYAL else []
        seated = _seat_at_one(rng, background, classes, group, [wanted, *others])
        if seated is not None:
            return seated
    return None


def _seat_at_one(
    rng: np.random.Generator, background: Background, classes: np.ndarray, group: Group, stations: Sequence[str]
) -> Seated | None:
    """The group where it fits, at the first such one of some stations."""
    spacing = background.ct.spacing_mm
    push = push_of(group.short_axis_mm)
    probes = make_probes(rng, group, push, spacing)
    for station in stations:
        spots = _draw_spots(rng, background, station, group.short_axis_mm)
        centre = find_seat(rng, probes, classes, spots)
        if centre is not None:
            fitted = fit_group(group, centre, classes.shape, spacing, background.edge_sigma_mm)
            if _shows(fitted, group, background.ct.voxel_volume_mm3):
                return Seated(group, push, fitted, centre, station)
    return None


def _shows(fitted: FittedGroup, group: Group, voxel_mm3: float) -> bool:
    """Whether every node is seen. Thin ones vanish between thick slices or in the CT's blur."""
    return all(
        fitted.voxels_of(number).sum() * voxel_mm3 >= LEAST_SEEN * np.pi / 6 * member.shape.short_axis_mm**3
        for number, member in enumerate(group.members)
    )


def _draw_station(rng: np.random.Generator, background: Background) -> str:
    return UNKNOWN if background.carina is None else draw_station(rng)


def _draw_spots(rng: np.random.Generator, background: Background, station: str, size_mm: float) -> np.ndarray:
    """Spots of a station, indices z, y, x [S, 3]. Without a carina they lie in any mediastinal fat."""
    if background.carina is None:
        return rng.choice(background.candidates, TRIES).astype(float)
    spots_mm = spots_around(rng, station, background.lungs_mm, TRIES, WIDER * size_mm)
    spots: np.ndarray = background.carina + spots_mm / background.ct.spacing_mm
    return spots


def _make_room(ct: np.ndarray, classes: np.ndarray, seated: Seated, background: Background) -> None:
    """Push the tissue around a group outward, in the CT and among the classes."""
    if seated.push.depth_mm == 0:
        return
    spacing = background.ct.spacing_mm
    reach_mm = seated.group.reach_mm + seated.push.limit_mm
    box = box_around(seated.centre, reach_mm, spacing, ct.shape)
    moved_mm = displacement_mm(seated.group, seated.centre, seated.push, classes, box, spacing)
    ct[box] = pushed(ct[box], moved_mm, spacing, order=3)
    classes[box] = pushed(classes[box], moved_mm, spacing, order=0)


def _fill(rng: np.random.Generator, ct: np.ndarray, seated: Seated, background: Background) -> None:
    """Put the nodes' tissue into a group's place."""
    fitted = seated.fitted
    size = fitted.occupancy.shape
    hu = draw_texture(rng, background.ct.array, background.sites, size, seated.centre, background.ct.spacing_mm)
    count = len(seated.group.members)
    of_each = _draw_hu(rng, background) + rng.normal(0, IN_CLUSTER_HU if count > 1 else 0.0, count)
    hu += of_each.astype(np.float32)[fitted.owner] + fitted.offset_hu
    ct[fitted.box] += fitted.occupancy * (hu - ct[fitted.box])


def _draw_hu(rng: np.random.Generator, background: Background) -> float:
    """The HU of node tissue. Without contrast medium it is near that of blood and heart in the same CT."""
    if background.phase != "none":
        return draw_node_hu(rng, background.phase)
    spread, most = UNCONTRASTED_HU
    return background.soft_hu + float(np.clip(rng.normal(0, spread), -most, most))


def _mark(labels: np.ndarray, classes: np.ndarray, seated: Seated, before: int, cluster: int) -> list[InsertedNode]:
    """Label the nodes of a group. `before`: count of those labelled before. `cluster`: its number if it is one."""
    members = seated.group.members
    nodes = []
    for number, member in enumerate(members):
        label = before + number + 1
        mine = seated.fitted.voxels_of(number)
        labels[seated.fitted.box][mine] = label
        corner = [s.start for s in seated.fitted.box]
        z, y, x = (int(c) for c in np.rint(np.argwhere(mine).mean(axis=0) + corner))
        nodes.append(
            InsertedNode(
                label=label,
                short_axis_mm=member.shape.short_axis_mm,
                centre=(z, y, x),
                station=seated.station,
                kind=member.shape.kind,
                source=member.source,
                cluster=cluster if len(members) > 1 else None,
            )
        )
    classes[seated.fitted.box][seated.fitted.occupancy > 0.05] = NODE
    return nodes
