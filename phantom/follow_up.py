"""Two CTs of one synthetic patient, whose nodes have a known history: grown, shrunk, gone, new, merged, split.

Between the CTs the patient lies otherwise, breathes in less or more deeply, may get contrast medium or none, and is
scanned by another scanner. Organs and nodes move with the breath and by slow bends.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from lnq.image.volume import Volume
from phantom.make import PARTS, draw_grid, scan, streams_of
from phantom.nodes import Shape, draw_node_hu, draw_short_axis_mm, render_surface
from phantom.patient import PHASES, Patient, draw_hu, draw_patient, draw_pose
from phantom.place import Field, PlacedNode, draw_weights, place_one
from phantom.scene import Scene, build_scene

_SAME = ("patient", "body", "mediastinum", "spine", "nodes", "texture", "lungs", "findings", "shoulders", "abdomen")
_GONE, _NEW = 0.15, 0.15  # of the nodes
_GROWTH = 0.25  # deviation of the logarithm of a short axis
_MERGE, _MOST_GROWTH = 0.35, 1.8  # how often near nodes grow together, and the most that they do so by
_OVERLAP_MM = 1.5  # of nodes that grew together


@dataclass(frozen=True, eq=False)
class Visit:
    """One of the two CTs. A node has the same number in both."""

    ct: Volume  # int16 HU
    nodes: Volume  # uint16: each node's number in its voxels, 0 elsewhere
    phase: str


@dataclass(frozen=True, eq=False)
class Scaled:
    """A shape that has grown or shrunk by a factor."""

    shape: Shape
    factor: float

    @property
    def kind(self) -> str:
        return self.shape.kind

    @property
    def short_axis_mm(self) -> float:
        return self.factor * self.shape.short_axis_mm

    @property
    def reach_mm(self) -> float:
        return self.factor * self.shape.reach_mm

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance in mm, negative inside, at points [..., 3]."""
        scaled: np.ndarray = self.factor * self.shape.signed_distance(np.asarray(points) / self.factor)
        return scaled.astype(np.float32)

    def render(self, points: np.ndarray, edge_mm: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
        """Occupancy and HU offset, float32 [...], at points [..., 3]."""
        _, offset = self.shape.render(np.asarray(points) / self.factor, edge_mm)
        return render_surface(self.signed_distance(points), edge_mm), offset


def make_follow_up(
    seed: int,
    spacing_mm: tuple[float, float, float] | None = None,
    size: int | tuple[int, int, int] | None = None,
) -> tuple[Visit, Visit]:
    """The earlier and the later CT. The same arguments, those of `make_phantom`, give the same CTs."""
    first = streams_of(seed)
    rng, *seeds = (np.random.default_rng(own) for own in np.random.SeedSequence([seed, 1]).spawn(len(PARTS) + 1))
    others = {part: own for part, own in zip(PARTS, seeds, strict=True) if part not in _SAME}
    second = streams_of(seed) | others
    patient, _ = (draw_patient(streams["patient"]) for streams in (first, second))
    scene = build_scene(patient, first)
    numbers = list(range(1, len(scene.nodes) + 1))
    visits = [_visit(scene, first, numbers, spacing_mm, size)]

    def change(_: np.random.Generator, patient: Patient, field: Field) -> list[PlacedNode]:
        history = _changed(scene, patient, field, rng)
        numbers[:] = history.keys()
        return list(history.values())

    again = build_scene(_again(patient, rng), second, place=change)
    visits.append(_visit(again, second, numbers, spacing_mm, size))
    earlier, later = visits if rng.random() < 0.5 else visits[::-1]
    return earlier, later


def _visit(
    scene: Scene,
    streams: dict[str, np.random.Generator],
    numbers: list[int],
    spacing_mm: tuple[float, float, float] | None,
    size: int | tuple[int, int, int] | None,
) -> Visit:
    grid = draw_grid(scene.patient, streams, spacing_mm, size, "usual")
    ct, labels, _ = scan(scene, streams, grid)
    return Visit(ct, ct.with_array(np.array([0, *numbers], np.uint16)[labels]), scene.patient.phase)


def _again(patient: Patient, rng: np.random.Generator) -> Patient:
    """The patient on another day."""
    x, y, z = patient.scale
    phase = str(rng.choice(PHASES, p=[0.3, 0.5, 0.2]))
    return dataclasses.replace(
        patient,
        scale=(x * rng.uniform(0.98, 1.02), y * rng.uniform(0.98, 1.02), z * rng.uniform(0.94, 1.06)),
        phase=phase,
        hu=draw_hu(rng, phase),
        pose=draw_pose(rng),
        warp_phases=patient.warp_phases + rng.normal(0, 0.4, 3),
    )


def _changed(scene: Scene, patient: Patient, field: Field, rng: np.random.Generator) -> dict[int, PlacedNode]:
    """What has become of a scene's nodes in the patient on another day, by number. New numbers follow the old ones."""
    factors = np.exp(rng.normal(0, _GROWTH, len(scene.nodes)))
    stays = rng.random(len(scene.nodes)) >= _GONE
    history: dict[int, PlacedNode] = {}
    for number, (node, factor, stay) in enumerate(zip(scene.nodes, factors, stays, strict=True), start=1):
        if stay:
            centre = _moved(node.centre_mm, scene.patient, patient)
            hu = draw_node_hu(rng, patient.phase)
            history[number] = PlacedNode(Scaled(node.shape, float(factor)), centre, node.station, hu)
    _grow_together(history, rng)
    taken, weights = list(history.values()), draw_weights(rng)
    for number in range(len(scene.nodes) + 1, len(scene.nodes) + 1 + rng.binomial(len(scene.nodes), _NEW)):
        if place_one(rng, patient, field, draw_short_axis_mm(rng), weights, taken):
            history[number] = taken[-1]
    return history


def _moved(centre_mm: np.ndarray, patient: Patient, again: Patient) -> np.ndarray:
    """Where a point z, y, x of a patient lies on another day."""
    wanted = centre_mm[::-1]
    reference = wanted / patient.scale
    for _ in range(20):  # the bends are slow, so this converges
        reference = reference + (wanted - patient.place(reference[None])[0]) / patient.scale
    moved: np.ndarray = again.place(reference[None])[0][::-1]
    return moved


def _grow_together(history: dict[int, PlacedNode], rng: np.random.Generator) -> None:
    """Have some pairs of near nodes grow until they overlap."""
    alone = set(history)
    for number in list(history):
        others = sorted(alone - {number}, key=lambda other: _gap_mm(history[number], history[other]))
        if number not in alone or not others or rng.random() >= _MERGE:
            continue
        pair = number, others[0]
        for factor in np.arange(1.0, _MOST_GROWTH, 0.05):
            grown = [_scaled(history[one], float(factor)) for one in pair]
            if _gap_mm(*grown) <= -_OVERLAP_MM:
                history |= dict(zip(pair, grown, strict=True))
                alone -= set(pair)
                break


def _scaled(node: PlacedNode, factor: float) -> PlacedNode:
    return dataclasses.replace(node, shape=Scaled(node.shape, factor))


def _gap_mm(node: PlacedNode, other: PlacedNode) -> float:
    """Least distance between two nodes' surfaces along the line between their centres; negative where they overlap."""
    line = other.centre_mm - node.centre_mm
    points = np.linspace(0.0, 1.0, 100)[:, None] * line
    both = node.shape.signed_distance(points) + other.shape.signed_distance(points - line)
    return float(both.min())
