"""A slab of a CT that structures are painted on, with soft edges and texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phantom.shapes import Drum, Pose, Structure, Tubes, Waved
from phantom.texture import Texture

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class _Cone:
    """One segment of tubes."""

    start: np.ndarray  # z, y, x in mm
    end: np.ndarray
    radius: np.ndarray  # at the start and at the end
    flat: float

    def signed_distance(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Distance to the surface in mm. y is stretched by `flat` first, so that the section is oval."""
        a, d = self.start.astype(np.float32), (self.end - self.start).astype(np.float32)
        pz, py, px = z - a[0], y - a[1], x - a[2]
        t = np.clip((pz * d[0] + py * d[1] + px * d[2]) / np.float32(max(float(d @ d), 1e-6)), 0.0, 1.0)
        pz = pz - t * d[0]
        py = (py - t * d[1]) * np.float32(self.flat)
        px = px - t * d[2]
        radius = np.float32(self.radius[0]) + t * np.float32(self.radius[1] - self.radius[0])
        distance: np.ndarray = np.sqrt(pz * pz + py * py + px * px) - radius
        return distance


class Slab:
    """Some slices of the image, or parts of slices, that structures are painted on.

    hu: float32 [Z, Y, X]. solid: float32 [Z, Y, X], how far solid structures fill a voxel, from 0 to 1.
    """

    def __init__(self, z_mm: np.ndarray, y_mm: np.ndarray, x_mm: np.ndarray, pose: Pose, edge_mm: float):
        self.z, self.y, self.x = (np.asarray(c, dtype=np.float32) for c in (z_mm, y_mm, x_mm))
        self.pose, self.edge_mm = pose, edge_mm
        self.hu = np.full((len(z_mm), len(y_mm), len(x_mm)), -1000.0, dtype=np.float32)
        self.solid = np.zeros_like(self.hu)

    def box(self, low: np.ndarray, high: np.ndarray) -> Box | None:
        """Indices of a box from `low` to `high` (patient's z, y, x in mm), or None where it misses the slab."""
        corners = np.array([[z, y, x] for z in (low[0], high[0]) for y in (low[1], high[1]) for x in (low[2], high[2])])
        image = self.pose.to_image(corners)
        box = []
        for axis, a, b in zip((self.z, self.y, self.x), image.min(0), image.max(0), strict=True):
            i, j = int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b, side="right"))
            if i >= j:
                return None
            box.append(slice(i, j))
        return box[0], box[1], box[2]

    def points(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Patient's z, y and x in a box, each broadcastable to [Z, Y, X]."""
        z = self.z[box[0]][:, None, None]
        y, x = self.pose.to_patient(z, self.y[box[1]][None, :, None], self.x[box[2]][None, None, :])
        return z, y, x

    def occupancy(self, s: Structure) -> tuple[np.ndarray, Box] | None:
        """How far a structure fills each voxel, from 0 to 1, and the box of it. None where it misses the slab."""
        edge = self.edge_mm + s.edge_mm
        shapes: list[tuple[Box, Waved | Drum | _Cone]] = [c for tubes in s.tubes for c in self._cones(tubes, edge)]
        for blob in s.blobs:
            box = self.box(blob.centre_mm - blob.reach_mm - edge, blob.centre_mm + blob.reach_mm + edge)
            if box is not None:
                shapes.append((box, blob))
        if not shapes:
            return None
        first = [min(b[i].start for b, _ in shapes) for i in range(3)]
        last = [max(b[i].stop for b, _ in shapes) for i in range(3)]
        union = (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2]))
        out = np.zeros([b.stop - b.start for b in union], dtype=np.float32)
        for box, shape in shapes:
            if isinstance(shape, _Cone):
                distance = shape.signed_distance(*self.points(box))
            else:
                distance = shape.signed_distance(np.stack(np.broadcast_arrays(*self.points(box)), axis=-1))
            inner = tuple(slice(b.start - u.start, b.stop - u.start) for b, u in zip(box, union, strict=True))
            np.maximum(out[inner], np.clip(0.5 - distance / edge, 0.0, 1.0), out=out[inner])
        return out, union

    def _cones(self, tubes: Tubes, edge: float) -> list[tuple[Box, _Cone]]:
        """The segments that reach the slab, each with its box there."""
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
        found = []
        for j, i in enumerate(near):
            z, y, x = (slice(int(f[j]), int(e[j])) for f, e in zip(first, last, strict=True))
            if all(side.start < side.stop for side in (z, y, x)):
                found.append(((z, y, x), _Cone(tubes.start[i], tubes.end[i], tubes.radius[i], tubes.flat)))
        return found

    def paint(self, s: Structure, texture: Texture | None = None) -> None:
        """Paint a structure over what is there. Its soft edges blend."""
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
