"""Drawing on a slab of a CT: tubes, ellipsoids, soft edges, a patient's pose, and textures.

Points in the patient's frame are (z, y, x) in mm: z to superior (0 at the carina), y to posterior, x to left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from phantom.nodes import Ellipsoid
from phantom.texture import Texture

Points = Sequence | np.ndarray


@dataclass(frozen=True)
class Pose:
    """How the patient lies in the image: turned about the body's axis, shifted, and leaning (shear along z)."""

    roll_rad: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)  # y, x
    lean: tuple[float, float] = (0.0, 0.0)  # y, x in mm per mm of z

    def to_patient(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Patient y and x of image points (z is common to both frames)."""
        c, s = np.float32(np.cos(self.roll_rad)), np.float32(np.sin(self.roll_rad))
        dy = y - (np.float32(self.shift_mm[0]) + np.float32(self.lean[0]) * z)
        dx = x - (np.float32(self.shift_mm[1]) + np.float32(self.lean[1]) * z)
        return c * dy - s * dx, s * dy + c * dx

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Image points [..., 3] of patient points [..., 3]."""
        z, y, x = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
        c, s = np.cos(self.roll_rad), np.sin(self.roll_rad)
        return np.stack(
            [
                z,
                c * y + s * x + self.shift_mm[0] + self.lean[0] * z,
                -s * y + c * x + self.shift_mm[1] + self.lean[1] * z,
            ],
            axis=-1,
        )


@dataclass(frozen=True, eq=False)
class Tubes:
    """Cone segments with round ends: start [N, 3], end [N, 3], radius at both [N, 2]; flat > 1 squeezes along y."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    flat: float = 1.0

    def grown(self, by_mm: float) -> "Tubes":
        """The same tubes with radii larger by `by_mm`, never below 0.2 mm."""
        return Tubes(self.start, self.end, np.maximum(self.radius + by_mm, 0.2), self.flat)


@dataclass(frozen=True, eq=False)
class Waved:
    """An ellipsoid whose surface waves by `wave_mm`."""

    ellipsoid: Ellipsoid
    reach_mm: float
    wave_mm: float = 0.0
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))

    @property
    def centre_mm(self) -> np.ndarray:
        return self.ellipsoid.centre_mm

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        distance = self.ellipsoid.signed_distance(points)
        for i, vector in enumerate(self.vectors):
            distance = distance + self.wave_mm * np.sin(points @ vector.astype(np.float32) + np.float32(1.7 * i))
        return distance


@dataclass(frozen=True, eq=False)
class Drum:
    """A flat-ended oval cylinder along z, waisted by `waist` (a share of its radius), as a vertebral body is."""

    centre_mm: np.ndarray  # z, y, x
    half_height_mm: float
    radii_mm: tuple[float, float]  # y, x
    waist: float = 0.0

    @property
    def reach_mm(self) -> float:
        return max(self.half_height_mm, *self.radii_mm)

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        z, y, x = np.moveaxis(points - self.centre_mm.astype(np.float32), -1, 0)
        v, u = y / np.float32(self.radii_mm[0]), x / np.float32(self.radii_mm[1])
        v = np.where(v > 0, v * 1.18, v)  # flattened behind
        k = (np.abs(u) ** 2.6 + np.abs(v) ** 2.6) ** np.float32(1 / 2.6)
        bulge = 1.0 - self.waist * (1.0 - (z / np.float32(self.half_height_mm)) ** 2)
        return np.maximum((k - bulge) * np.float32(min(self.radii_mm)), np.abs(z) - np.float32(self.half_height_mm))


@dataclass(frozen=True, eq=False)
class Structure:
    """Shapes painted together with one HU; texture scales the slab's fine texture (HU), solid ones exclude nodes."""

    name: str
    hu: float
    tubes: tuple[Tubes, ...] = ()
    blobs: tuple[Waved | Drum, ...] = ()
    texture_hu: float = 0.0
    solid: bool = True
    edge_mm: float = 0.0  # added to the slab's own edge


def spline_tube(points: Points, radii: Points, step_mm: float = 4.0, flat: float = 1.0) -> Tubes:
    """A tube through (x, y, z, in the reader's order) control points: Catmull-Rom curve, radii interpolated."""
    p = np.asarray(points, dtype=float)[:, ::-1]
    r = np.broadcast_to(np.asarray(radii, dtype=float), (len(p),))
    padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    curve, width = [], []
    for i in range(len(p) - 1):
        a, b, c, d = padded[i : i + 4]
        n = max(2, int(np.ceil(np.linalg.norm(c - b) / step_mm)))
        t = np.arange(n)[:, None] / n
        curve.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
        width.append(r[i] + (r[i + 1] - r[i]) * t[:, 0])
    line = np.concatenate([*curve, p[-1:]])
    width_all = np.concatenate([*width, r[-1:]])
    return Tubes(line[:-1], line[1:], np.stack([width_all[:-1], width_all[1:]], axis=1), flat)


def ellipsoid(
    centre: Points, radii: Points, rotation: np.ndarray | None = None, wave_mm: float = 0.0, rng=None
) -> Waved:
    """An ellipsoid from (x, y, z) centre and radii; `rotation` acts on (z, y, x); waves need a generator."""
    matrix = np.diag(1.0 / np.asarray(radii, dtype=float)[::-1])
    if rotation is not None:
        matrix = matrix @ rotation
    vectors = np.zeros((0, 3))
    if wave_mm > 0 and rng is not None:
        vectors = rng.normal(size=(3, 3))
        vectors *= 2 * np.pi / (np.mean(radii) * 1.3) / np.linalg.norm(vectors, axis=1, keepdims=True)
    reach = float(np.max(radii) + 3 * wave_mm)
    return Waved(Ellipsoid(np.asarray(centre, dtype=float)[::-1], matrix), reach, wave_mm, vectors)


def tilted(about_x: float, about_z: float) -> np.ndarray:
    """Rotation (z, y, x): leaning forwards by about_x, turned in the axial plane by about_z (radians)."""
    c, s = np.cos(about_x), np.sin(about_x)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ turned(about_z)


def turned(angle: float) -> np.ndarray:
    """Rotation (z, y, x) about the body's axis, in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def aligned(direction: np.ndarray) -> np.ndarray:
    """Rotation (z, y, x) that lays an ellipsoid's z radius along `direction` (x, y, z)."""
    axis = direction[::-1] / np.linalg.norm(direction)
    side = np.cross(axis, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    return np.stack([axis, np.cross(side, axis), side])


def polar(y: np.ndarray, x: np.ndarray, angles: int) -> tuple[np.ndarray, np.ndarray]:
    """Radius, and index 0..angles-1 of the angle from -pi to pi, of points in a plane."""
    index = ((np.arctan2(y, x) + np.float32(np.pi)) * np.float32(angles / (2 * np.pi))).astype(np.int32) % angles
    return np.sqrt(x * x + y * y), index


class Slab:
    """Some (sub-)slices of the image: HU to paint on, what is solid, and the coordinates.

    hu: float32 [Z, Y, X]. solid: float32 [Z, Y, X], occupancy 0..1 by structures that exclude nodes.
    """

    def __init__(self, z_mm: np.ndarray, y_mm: np.ndarray, x_mm: np.ndarray, pose: Pose, edge_mm: float):
        self.z, self.y, self.x = (np.asarray(c, dtype=np.float32) for c in (z_mm, y_mm, x_mm))
        self.pose, self.edge_mm = pose, edge_mm
        self.hu = np.full((len(z_mm), len(y_mm), len(x_mm)), -1000.0, dtype=np.float32)
        self.solid = np.zeros_like(self.hu)

    def box(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, slice] | None:
        """Index box of a patient-frame box (z, y, x) in mm, or None where it misses the slab."""
        corners = np.array([[z, y, x] for z in (low[0], high[0]) for y in (low[1], high[1]) for x in (low[2], high[2])])
        image = self.pose.to_image(corners)
        box = []
        for axis, a, b in zip((self.z, self.y, self.x), image.min(0), image.max(0), strict=True):
            i, j = int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b, side="right"))
            if i >= j:
                return None
            box.append(slice(i, j))
        return box[0], box[1], box[2]

    def points(self, box: tuple[slice, slice, slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Patient coordinates of a box, each broadcastable to [Z, Y, X]."""
        z = self.z[box[0]][:, None, None]
        y, x = self.pose.to_patient(z, self.y[box[1]][None, :, None], self.x[box[2]][None, None, :])
        return z, y, x

    def occupancy(self, s: Structure) -> tuple[np.ndarray, tuple[slice, slice, slice]] | None:
        """Occupancy 0..1 of a structure on the box that holds it, or None where it misses the slab."""
        edge = self.edge_mm + s.edge_mm
        jobs = [job for tubes in s.tubes for job in self._tube_jobs(tubes, edge)]
        for blob in s.blobs:
            box = self.box(blob.centre_mm - blob.reach_mm - edge, blob.centre_mm + blob.reach_mm + edge)
            if box is not None:
                jobs.append((box, blob))
        if not jobs:
            return None
        first = [min(b[i].start for b, _ in jobs) for i in range(3)]
        last = [max(b[i].stop for b, _ in jobs) for i in range(3)]
        union = (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2]))
        out = np.zeros([b.stop - b.start for b in union], dtype=np.float32)
        for box, job in jobs:
            if isinstance(job, Waved | Drum):
                distance = job.signed_distance(np.stack(np.broadcast_arrays(*self.points(box)), axis=-1))
            else:
                distance = _cone_distance(self.points(box), *job)
            inner = tuple(slice(b.start - u.start, b.stop - u.start) for b, u in zip(box, union, strict=True))
            np.maximum(out[inner], np.clip(0.5 - distance / edge, 0.0, 1.0), out=out[inner])
        return out, union

    def _tube_jobs(self, tubes: Tubes, edge: float) -> list:
        """(index box, segment) of the segments that reach the slab."""
        reach = tubes.radius.max(1)[:, None] + edge
        low = np.minimum(tubes.start, tubes.end) - reach
        high = np.maximum(tubes.start, tubes.end) + reach
        near = np.nonzero((low[:, 0] <= self.z[-1]) & (high[:, 0] >= self.z[0]))[0]
        if len(near) == 0:
            return []
        low, high = low[near], high[near]
        middle, half = self.pose.to_image(0.5 * (low + high)), 0.5 * (high - low)
        c, s = abs(np.cos(self.pose.roll_rad)), abs(np.sin(self.pose.roll_rad))
        lean = np.abs(self.pose.lean)
        wide = np.stack([half[:, 0], c * half[:, 1] + s * half[:, 2], s * half[:, 1] + c * half[:, 2]], axis=1)
        wide[:, 1:] += half[:, :1] * lean
        axes = (self.z, self.y, self.x)
        first = [np.searchsorted(a, middle[:, k] - wide[:, k]) for k, a in enumerate(axes)]
        last = [np.searchsorted(a, middle[:, k] + wide[:, k], side="right") for k, a in enumerate(axes)]
        return [
            (
                tuple(slice(int(f[j]), int(e[j])) for f, e in zip(first, last, strict=True)),
                (tubes.start[i], tubes.end[i], *tubes.radius[i], tubes.flat),
            )
            for j, i in enumerate(near)
            if all(f[j] < e[j] for f, e in zip(first, last, strict=True))
        ]

    def paint(self, s: Structure, texture: Texture | None = None) -> None:
        """Blend a structure over what is there."""
        found = self.occupancy(s)
        if found is None:
            return
        occupancy, box = found
        value: np.ndarray | float = s.hu
        if s.texture_hu and texture is not None:
            value = s.hu + s.texture_hu * texture.look(texture.fine, self.z[box[0]], self.y[box[1]], self.x[box[2]])
        hu = self.hu[box]
        hu += occupancy * (value - hu)
        if s.solid:
            np.maximum(self.solid[box], occupancy, out=self.solid[box])


def _cone_distance(points, start, end, r0: float, r1: float, flat: float) -> np.ndarray:
    """Distance to a cone segment with round ends; y is stretched by `flat` first, so that the section is oval."""
    z, y, x = points
    a, d = start.astype(np.float32), (end - start).astype(np.float32)
    pz, py, px = z - a[0], y - a[1], x - a[2]
    t = np.clip((pz * d[0] + py * d[1] + px * d[2]) / np.float32(max(float(d @ d), 1e-6)), 0.0, 1.0)
    pz = pz - t * d[0]
    py = (py - t * d[1]) * np.float32(flat)
    px = px - t * d[2]
    return np.sqrt(pz * pz + py * py + px * px) - (np.float32(r0) + t * np.float32(r1 - r0))
