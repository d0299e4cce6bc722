"""Shapes of anatomical structures, and the patient's pose.

Points in the patient's frame are (z, y, x) in mm. z points to superior and is 0 at the carina, y points to posterior,
x to left.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from phantom.nodes import Ellipsoid


@dataclass(frozen=True)
class Pose:
    """How the patient lies in the image."""

    roll_rad: float = 0.0  # the turn about the body's axis
    shift_mm: tuple[float, float] = (0.0, 0.0)  # y, x
    lean: tuple[float, float] = (0.0, 0.0)  # shear along z: y, x in mm per mm of z

    def to_patient(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Patient y and x of image points in mm. z is the same in both frames."""
        c, s = np.float32(np.cos(self.roll_rad)), np.float32(np.sin(self.roll_rad))
        dy = y - (np.float32(self.shift_mm[0]) + np.float32(self.lean[0]) * z)
        dx = x - (np.float32(self.shift_mm[1]) + np.float32(self.lean[1]) * z)
        return c * dy - s * dx, s * dy + c * dx

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Image points [..., 3] in mm of patient points [..., 3]."""
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
    """N cone segments with round ends, in mm."""

    start: np.ndarray  # [N, 3]
    end: np.ndarray  # [N, 3]
    radius: np.ndarray  # [N, 2], at the start and at the end
    flat: float = 1.0  # above 1, the section is squeezed along y

    def grown(self, by_mm: float) -> "Tubes":
        """The same tubes with radii larger by `by_mm`, never below 0.2 mm."""
        return Tubes(self.start, self.end, np.maximum(self.radius + by_mm, 0.2), self.flat)


@dataclass(frozen=True, eq=False)
class Waved:
    """An ellipsoid whose surface waves by `wave_mm`."""

    ellipsoid: Ellipsoid
    reach_mm: float  # the shape lies inside this radius
    wave_mm: float = 0.0
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # wave vectors, 1/mm

    @property
    def centre_mm(self) -> np.ndarray:
        """Centre z, y, x."""
        return self.ellipsoid.centre_mm

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance to the surface in mm, negative inside, at points [..., 3]."""
        distance = self.ellipsoid.signed_distance(points)
        for i, vector in enumerate(self.vectors):
            distance = distance + self.wave_mm * np.sin(points @ vector.astype(np.float32) + np.float32(1.7 * i))
        return distance


@dataclass(frozen=True, eq=False)
class Drum:
    """An oval cylinder along z with flat ends and a waist, like a vertebral body."""

    centre_mm: np.ndarray  # z, y, x
    half_height_mm: float
    radii_mm: tuple[float, float]  # y, x
    waist: float = 0.0  # how much narrower the middle is, as a share of the radius

    @property
    def reach_mm(self) -> float:
        """The largest half extent along an axis."""
        return max(self.half_height_mm, *self.radii_mm)

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance to the surface in mm, about, negative inside, at points [..., 3]."""
        z, y, x = np.moveaxis(points - self.centre_mm.astype(np.float32), -1, 0)
        v, u = y / np.float32(self.radii_mm[0]), x / np.float32(self.radii_mm[1])
        v = np.where(v > 0, v * 1.18, v)  # the back is flatter than the front
        k = (np.abs(u) ** 2.6 + np.abs(v) ** 2.6) ** np.float32(1 / 2.6)
        bulge = 1.0 - self.waist * (1.0 - (z / np.float32(self.half_height_mm)) ** 2)
        to_side, to_end = (k - bulge) * np.float32(min(self.radii_mm)), np.abs(z) - np.float32(self.half_height_mm)
        distance: np.ndarray = np.maximum(to_side, to_end)
        return distance


@dataclass(frozen=True, eq=False)
class Structure:
    """Shapes that are painted together with one HU."""

    name: str
    hu: float
    tubes: tuple[Tubes, ...] = ()
    blobs: tuple[Waved | Drum, ...] = ()
    texture_hu: float = 0.0  # strength of the fine texture
    solid: bool = True  # no node may lie in it
    edge_mm: float = 0.0  # added to the width of the slab's edges


def spline_tube(points: ArrayLike, radii: ArrayLike, step_mm: float = 4.0, flat: float = 1.0) -> Tubes:
    """A tube along a Catmull-Rom curve through control points [N, 3], here x, y, z. Its radii [N] are interpolated."""
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
    centre: ArrayLike,
    radii: ArrayLike,
    rotation: np.ndarray | None = None,
    wave_mm: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Waved:
    """An ellipsoid from its centre and radii, here x, y, z. `rotation` acts on z, y, x. Waves need `rng`."""
    half_axes = np.asarray(radii, dtype=float)
    matrix = np.diag(1.0 / half_axes[::-1])
    if rotation is not None:
        matrix = matrix @ rotation
    vectors = np.zeros((0, 3))
    if wave_mm > 0 and rng is not None:
        vectors = rng.normal(size=(3, 3))
        vectors *= 2 * np.pi / (np.mean(half_axes) * 1.3) / np.linalg.norm(vectors, axis=1, keepdims=True)
    reach = float(np.max(half_axes) + 3 * wave_mm)
    return Waved(Ellipsoid(np.asarray(centre, dtype=float)[::-1], matrix), reach, wave_mm, vectors)


def tilted(about_x: float, about_z: float) -> np.ndarray:
    """Rotation of z, y, x: `about_x` leans forwards, `about_z` turns in the axial plane (radians)."""
    c, s = np.cos(about_x), np.sin(about_x)
    rotation: np.ndarray = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ turned(about_z)
    return rotation


def turned(angle: float) -> np.ndarray:
    """Rotation of z, y, x about the body's axis, in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def aligned(direction: np.ndarray) -> np.ndarray:
    """Rotation of z, y, x that lays an ellipsoid's z radius along `direction`, which is x, y, z."""
    axis = direction[::-1] / np.linalg.norm(direction)
    side = np.cross(axis, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    return np.stack([axis, np.cross(side, axis), side])


def polar(y: np.ndarray, x: np.ndarray, angles: int) -> tuple[np.ndarray, np.ndarray]:
    """Radius of points in a plane, and the index of their angle: 0 to angles - 1 for -pi to pi."""
    index = ((np.arctan2(y, x) + np.float32(np.pi)) * np.float32(angles / (2 * np.pi))).astype(np.int32) % angles
    return np.sqrt(x * x + y * y), index
