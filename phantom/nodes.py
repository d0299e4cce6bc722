"""Shapes of lymph nodes. A shape is drawn once and can be rendered at any points in space.

Points are float arrays [..., 3] in mm, in the order z, y, x, relative to the node's centre:

    draw_short_axis_mm(rng, smallest=3.0, largest=20.0) -> float
    draw_node(rng, short_axis_mm, kind=None) -> NodeShape        kind: None (drawn) or one of KINDS
    NodeShape.signed_distance(points) -> float32 [...]           mm, negative inside
    NodeShape.render(points, edge_mm=0.6) -> (occupancy, hu_offset)
                        occupancy float32 [...] 0..1 (0.5 on the surface), hu_offset float32 [...] to add to the HU
    NodeShape.reach_mm -> float                                  the shape lies inside this radius
    Shape                                                        the protocol of all of these
    draw_node_hu(rng, phase) -> float                            HU of the node's tissue in a contrast phase

A node in a CT is then `hu = (1 - occupancy) * background + occupancy * (node_hu + hu_offset)`, and its label
is `occupancy >= 0.5`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

KINDS = ("plain", "fatty_hilum", "necrotic")

# Mean and spread of a node's HU per contrast phase. In the arterial phase nodes are not yet at their brightest.
NODE_HU = {"none": (40.0, 6.0), "arterial": (74.0, 11.0), "venous": (88.0, 12.0)}


class Shape(Protocol):
    """A node's shape, whatever it is made of. Points are [..., 3], z, y, x in mm from its centre."""

    @property
    def kind(self) -> str: ...

    @property
    def short_axis_mm(self) -> float: ...

    @property
    def reach_mm(self) -> float: ...

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance to the surface in mm, float32 [...], negative inside."""
        ...

    def render(self, points: np.ndarray, edge_mm: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
        """Occupancy, from 0 to 1, and HU offset, both float32 [...]."""
        ...


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """The surface of points p with |matrix @ (p - centre_mm)| = 1."""

    centre_mm: np.ndarray  # z, y, x
    matrix: np.ndarray  # [3, 3], diag(1 / semi axes in mm) @ rotation

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance in mm, negative inside, to first order: k (k - 1) / |grad|. Exact on the surface and for spheres."""
        scaled = (points - self.centre_mm.astype(np.float32)) @ self.matrix.T.astype(np.float32)
        k = np.sqrt(np.einsum("...i,...i->...", scaled, scaled)) + 1e-6
        gradient = scaled @ self.matrix.astype(np.float32)
        slope = np.sqrt(np.einsum("...i,...i->...", gradient, gradient)) + 1e-6
        distance: np.ndarray = k * (k - 1.0) / slope
        return distance


@dataclass(frozen=True, eq=False)
class NodeShape:
    """One node: a main ellipsoid, lobes joined smoothly to it, surface waves, and at most one inner part.

    `short_axis_mm` is the minor axis of the main ellipsoid's central axial section, as radiologists measure it.
    `inner` is hilar fat or necrosis. `inner_hu`, which is negative, is added to the HU there.
    """

    kind: str
    short_axis_mm: float
    main: Ellipsoid
    lobes: tuple[Ellipsoid, ...]
    wave_mm: float
    wave_vectors: np.ndarray  # [W, 3], 1/mm
    wave_phases: np.ndarray  # [W]
    inner: Ellipsoid | None
    inner_hu: float
    reach_mm: float  # the whole shape lies inside this radius

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance to the surface in mm, negative inside, to first order, at points [..., 3]."""
        points = np.asarray(points, dtype=np.float32)
        distance: np.ndarray = self.main.signed_distance(points)
        for lobe in self.lobes:
            distance = smooth_union(distance, lobe.signed_distance(points), 0.12 * self.short_axis_mm)
        for vector, phase in zip(self.wave_vectors, self.wave_phases, strict=True):
            distance = distance + self.wave_mm * np.sin(points @ vector.astype(np.float32) + np.float32(phase))
        return distance.astype(np.float32)

    def render(self, points: np.ndarray, edge_mm: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
        """Occupancy and HU offset, float32 [...], at points [..., 3].

        Across the surface, occupancy is a ramp from 0 to 1 of width edge_mm.
        """
        points = np.asarray(points, dtype=np.float32)
        return render_surface(self.signed_distance(points), edge_mm), render_inner(self, points)


class WithInner(Protocol):
    """A shape that may have hilar fat or necrosis inside."""

    @property
    def short_axis_mm(self) -> float: ...

    @property
    def inner(self) -> Ellipsoid | None: ...

    @property
    def inner_hu(self) -> float: ...


def render_surface(distance: np.ndarray, edge_mm: float) -> np.ndarray:
    """Occupancy, float32 [...], of a shape at signed distances in mm: a ramp of width edge_mm across the surface."""
    return np.clip(0.5 - distance / edge_mm, 0.0, 1.0).astype(np.float32)


def render_inner(shape: WithInner, points: np.ndarray) -> np.ndarray:
    """The HU, float32 [...], that a shape's inner part adds at points [..., 3]. Its border is soft."""
    if shape.inner is None:
        return np.zeros(points.shape[:-1], np.float32)
    soft_edge_mm = max(1.0, 0.15 * shape.short_axis_mm)
    offset = shape.inner_hu * np.clip(0.5 - shape.inner.signed_distance(points) / soft_edge_mm, 0.0, 1.0)
    return offset.astype(np.float32)


def smooth_union(a: np.ndarray, b: np.ndarray, blend_mm: float) -> np.ndarray:
    """Signed distance in mm of the union of two shapes of distances a and b: a polynomial smooth minimum.

    The seam between them is rounded over `blend_mm`.
    """
    h = np.clip(0.5 + 0.5 * (b - a) / blend_mm, 0.0, 1.0)
    union: np.ndarray = b + (a - b) * h - blend_mm * h * (1.0 - h)
    return union


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation [3, 3], drawn uniformly."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def draw_short_axis_mm(rng: np.random.Generator, smallest: float = 3.0, largest: float = 20.0) -> float:
    """Draw a mediastinal node's short axis in mm. The median is 7, most lie between 4 and 12, few near `largest`."""
    for _ in range(100):
        size = float(7.0 * np.exp(rng.normal(0.0, 0.42)))
        if smallest <= size <= largest:
            return size
    return float(np.clip(size, smallest, largest))


def draw_node_hu(rng: np.random.Generator, phase: str) -> float:
    """Draw the HU of a node's tissue in contrast phase "none", "arterial" or "venous"."""
    mean, spread = NODE_HU[phase]
    low, high = (28.0, 62.0) if phase == "none" else (55.0, 120.0)
    return float(np.clip(rng.normal(mean, spread), low, high))


def central_minor_axis_mm(matrix: np.ndarray) -> float:
    """Minor axis, a diameter, of the axial section through the centre of the ellipsoid |matrix @ p| = 1."""
    quadric = matrix.T @ matrix
    return float(2.0 / np.sqrt(np.linalg.eigvalsh(quadric[1:, 1:])[-1]))


def draw_kind(rng: np.random.Generator, short_axis_mm: float) -> str:
    """Draw one of KINDS.

    Only nodes of 6 to 20 mm have a fatty hilum, which larger ones have lost, and only those of 10 mm and more necrosis.
    """
    u = rng.random()
    if short_axis_mm >= 10.0 and u < 0.18:
        return "necrotic"
    if 6.0 <= short_axis_mm <= 20.0 and u > 0.78:
        return "fatty_hilum"
    return "plain"


def draw_node(rng: np.random.Generator, short_axis_mm: float, kind: str | None = None) -> NodeShape:
    """Draw a node's shape. Raises ValueError for a kind that is not in KINDS or a size that is not positive."""
    if not short_axis_mm > 0:
        raise ValueError(f"short_axis_mm must be positive, not {short_axis_mm}")
    kind = draw_kind(rng, short_axis_mm) if kind is None else kind
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, not {kind!r}")
    # Nodes are oval. The longest axis is up to 2.5 times the shortest, and up to twice from 10 mm on.
    longest = 1.0 + rng.beta(1.6, 2.2) * (1.5 if short_axis_mm < 10 else 1.0)
    ratios = np.array([longest, 1.0 + rng.random() * (longest - 1.0), 1.0])
    if rng.random() < 0.5:  # half of the nodes lie along the body's axis, like the chains beside the trachea
        tilt = 0.35 * rng.normal(size=3)
        rotation = rotation_of(tilt)
    else:
        rotation = random_rotation(rng)
    matrix = np.diag(1.0 / ratios) @ rotation
    # Scaled so that the central section has the wanted minor axis.
    matrix = matrix * (central_minor_axis_mm(matrix) / short_axis_mm)
    main = Ellipsoid(np.zeros(3), matrix)
    lobes = _draw_lobes(rng, main) if rng.random() < 0.35 else ()
    count = 3
    wave_mm = float(short_axis_mm * rng.uniform(0.0, 0.035)) if rng.random() < 0.7 else 0.0
    vectors = rng.normal(size=(count, 3))
    vectors *= (2 * np.pi / (short_axis_mm * rng.uniform(0.7, 1.4))) / np.linalg.norm(vectors, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, count)
    inner, inner_hu = draw_inner(rng, kind, main)
    reach = 1.0 / np.linalg.svd(matrix, compute_uv=False)[-1]
    reach_mm = float(reach * (1.5 if lobes else 1.0) + count * wave_mm + 1.0)
    return NodeShape(kind, float(short_axis_mm), main, lobes, wave_mm, vectors, phases, inner, inner_hu, reach_mm)


def rotation_of(angles: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] of z, y, x by three angles in radians, the first of which turns about z."""
    a, b, c = angles
    rz = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    rx = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    rotation: np.ndarray = rz @ ry @ rx
    return rotation


def _draw_lobes(rng: np.random.Generator, main: Ellipsoid) -> tuple[Ellipsoid, ...]:
    """One to three smaller ellipsoids whose centres lie near the surface of the main one."""
    lobes = []
    for _ in range(rng.integers(1, 4)):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        centre = np.linalg.solve(main.matrix, direction) * rng.uniform(0.5, 0.8)
        lobes.append(Ellipsoid(centre, main.matrix / rng.uniform(0.45, 0.65)))
    return tuple(lobes)


def draw_inner(rng: np.random.Generator, kind: str, main: Ellipsoid) -> tuple[Ellipsoid | None, float]:
    """The inner part and the HU it adds: eccentric fat of the hilum, or a central necrotic core. None where plain."""
    if kind == "plain":
        return None, 0.0
    direction = rng.normal(size=3)
    direction[0] *= 0.3  # lies near the axial plane, so that axial slices show it
    direction /= np.linalg.norm(direction)
    on_surface = np.linalg.solve(main.matrix, direction)
    if kind == "fatty_hilum":
        return Ellipsoid(on_surface * rng.uniform(0.4, 0.75), main.matrix / rng.uniform(0.32, 0.5)), float(
            rng.uniform(-150, -90)
        )
    return Ellipsoid(on_surface * rng.uniform(0.0, 0.2), main.matrix / rng.uniform(0.45, 0.68)), float(
        rng.uniform(-60, -30)
    )
