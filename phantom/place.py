"""Where nodes lie: the stations of the mediastinum, and a search for seats beside vessels but not in them."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from phantom.nodes import Shape, draw_node, draw_node_hu, draw_short_axis_mm
from phantom.patient import Patient
from phantom.stations import STATIONS


@dataclass(frozen=True, eq=False)
class PlacedNode:
    """A node in its place in one patient."""

    shape: Shape
    centre_mm: np.ndarray  # z, y, x in the patient's frame
    station: str
    hu: float  # of its tissue


class Field:
    """Signed distances in mm on a coarse grid: to solid structures, to the mediastinum and to the chest wall."""

    def __init__(
        self,
        axes_mm: tuple[np.ndarray, np.ndarray, np.ndarray],
        solid: np.ndarray,
        mediastinum: np.ndarray,
        wall: np.ndarray,
    ):
        self.axes_mm = axes_mm
        self.solid, self.mediastinum, self.wall = solid, mediastinum, wall

    def look(self, which: np.ndarray, points: np.ndarray) -> np.ndarray:
        """One of the distances, interpolated linearly at points [N, 3] of the image in mm."""
        index = [(points[:, i] - a[0]) / (a[1] - a[0]) for i, a in enumerate(self.axes_mm)]
        distance: np.ndarray = ndimage.map_coordinates(which, index, order=1, mode="nearest")
        return distance


def _samples(shape: Shape) -> np.ndarray:
    """Points within the shape, [N, 3]. They lie on a grid of a seventh of its short axis."""
    step = shape.short_axis_mm / 7
    axis = np.arange(-shape.reach_mm, shape.reach_mm + step, step)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid[shape.signed_distance(grid) <= 0]


def _seat(
    rng: np.random.Generator,
    patient: Patient,
    field: Field,
    shape: Shape,
    spot: np.ndarray,
    spread: np.ndarray,
    taken: list[PlacedNode],
) -> np.ndarray | None:
    """The best of 60 random seats around a reference point `spot`, as z, y, x of the patient, or None.

    A seat lies in mediastinal fat and is free of structures and of other nodes. The best is the one nearest to both
    a structure and the mediastinum, but for some luck.
    """
    samples = _samples(shape)
    samples = samples[rng.permutation(len(samples))[:350]]
    best, best_score = None, np.inf
    spots = spot + rng.normal(0, 1, (60, 3)) * spread
    spots = patient.place(spots[(spots[:, 2] < 72) & (spots[:, 2] > -125)])[:, ::-1]
    for centre in spots:
        at_centre = patient.pose.to_image(centre[None])
        if field.look(field.solid, at_centre)[0] < 0.2 * shape.short_axis_mm:
            continue
        points = patient.pose.to_image(centre[None]) + samples
        in_structure = np.mean(field.look(field.solid, points) < 0.0)
        to_pleura = field.look(field.mediastinum, points)
        to_wall = field.look(field.wall, points)
        if in_structure > 0.08 or to_wall.max() > -3.0 or np.mean(to_pleura > 0.30 * shape.short_axis_mm) > 0.25:
            continue
        if any(_overlap(shape, samples, centre, other) for other in taken):
            continue
        gap = abs(field.look(field.solid, points).min())
        score = gap + 3.0 * np.mean(to_pleura > 0) + rng.uniform(0, 4.0)
        if score < best_score:
            best, best_score = centre, score
    return best


def _overlap(shape: Shape, samples: np.ndarray, centre: np.ndarray, other: PlacedNode) -> bool:
    """Whether a shape at `centre` comes as near as 0.4 mm to another node."""
    offset = centre - other.centre_mm
    if np.linalg.norm(offset) > shape.reach_mm + other.shape.reach_mm:
        return False
    return float(other.shape.signed_distance(samples + offset).min()) < 0.4


def place_nodes(rng: np.random.Generator, patient: Patient, field: Field) -> list[PlacedNode]:
    """Draw and place up to 25 nodes. At least five are drawn, one of them of 9 mm or more.

    Large nodes are placed first. Some lie beside one that is there already. One that fits nowhere is left out.
    """
    count = int(np.clip(rng.gamma(4.0, 2.9) + 2, 5, 25))
    sizes = [float(rng.uniform(9, 16)), *(draw_short_axis_mm(rng) for _ in range(count - 1))]
    weights = draw_weights(rng)
    nodes: list[PlacedNode] = []
    for size in sorted(sizes, reverse=True):
        place_one(rng, patient, field, size, weights, nodes)
    return nodes


def place_one(
    rng: np.random.Generator,
    patient: Patient,
    field: Field,
    short_axis_mm: float,
    weights: np.ndarray,
    nodes: list[PlacedNode],
) -> bool:
    """Draw a node and append it to `nodes`; False where it fits nowhere. `weights`: of the stations, in their order."""
    names = list(STATIONS)
    for attempt in range(14):
        shape = draw_node(rng, max(short_axis_mm * 0.94**attempt, min(short_axis_mm, 4.0)))
        near = nodes[rng.integers(len(nodes))] if nodes and rng.random() < 0.22 else None
        if near is not None:
            station, spot = near.station, _unplaced(patient, near.centre_mm)
            spread = 0.6 * (near.shape.short_axis_mm + short_axis_mm) * np.ones(3)
        else:
            station = str(rng.choice(names, p=weights))
            spot, spread = np.array(STATIONS[station][0], float), np.array(STATIONS[station][1], float)
        seat = _seat(rng, patient, field, shape, spot, spread, nodes)
        if seat is not None:
            nodes.append(PlacedNode(shape, seat, station, draw_node_hu(rng, patient.phase)))
            return True
    return False


def draw_weights(rng: np.random.Generator) -> np.ndarray:
    """How often each station gets a node, as parts of 1, in the order of `STATIONS`."""
    weights = np.array([station[2] for station in STATIONS.values()]) * rng.gamma(4.0, 1.0, len(STATIONS))
    normalised: np.ndarray = weights / weights.sum()
    return normalised


def _unplaced(patient: Patient, point_zyx: np.ndarray) -> np.ndarray:
    """Reference x, y, z of a patient's point. The slow bending is not undone."""
    reference: np.ndarray = point_zyx[::-1] / np.asarray(patient.scale)
    return reference
