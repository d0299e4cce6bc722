"""A node's shape from a real mask, with a smooth surface, in any size and orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from phantom.insertion.collection import CollectedNode
from phantom.nodes import Ellipsoid, draw_inner, draw_kind, render_inner, render_surface

_GRID_MM = 1.0  # largest distance of the field's planes; thicker slices are interpolated
_MARGIN_MM = 6.0  # of the field around the mask
# Deviation of the smoothing along z and within the slice, as a part of the mask's extent there, and at least in mm.
# Masks are drawn slice by slice, so their outlines jump along z, and end there as if cut.
_SMOOTH, _LEAST_SMOOTH_MM = (0.12, 0.04, 0.04), (1.0, 0.5, 0.5)


@dataclass(frozen=True, eq=False)
class DistanceField:
    """Signed distances to a mask's surface in mm, negative inside, on a grid around its centre of mass."""

    distance: np.ndarray  # float32 [Z, Y, X], axes along the patient's
    spacing_mm: np.ndarray  # z, y, x
    centre: np.ndarray  # index z, y, x of the centre of mass
    moments: Ellipsoid  # of the same second moments

    def look(self, points: np.ndarray) -> np.ndarray:
        """The distance at points [..., 3] in mm from the centre. Outside the grid the way to it is added."""
        index = points / self.spacing_mm.astype(np.float32) + self.centre.astype(np.float32)
        within = np.clip(index, 0, np.array(self.distance.shape, np.float32) - 1)
        distance = ndimage.map_coordinates(self.distance, np.moveaxis(within, -1, 0), order=1)
        beyond = np.linalg.norm((index - within) * self.spacing_mm.astype(np.float32), axis=-1)
        found: np.ndarray = distance + beyond
        return found


def distance_field(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> DistanceField:
    """The field of a mask, bool [Z, Y, X], whose surface is smoothed. It encloses the mask's volume.

    The distances are those to the outline in mm, inside and outside. They are interpolated between thick slices (Raya
    and Udupa 1990), smoothed, most along z, and shifted until the enclosed volume is that of the mask.
    """
    spacing = np.array(spacing_mm)
    padded = np.pad(mask, [(int(np.ceil(_MARGIN_MM / s)),) * 2 for s in spacing])
    outside = ndimage.distance_transform_edt(~padded, spacing)
    inside = ndimage.distance_transform_edt(padded, spacing)
    half = spacing.min() / 2  # the outline lies between the voxels' centres
    distance = np.where(padded, half - inside, outside - half)
    centre = np.argwhere(padded).mean(axis=0)
    finer = max(1, round(spacing[0] / _GRID_MM))
    if finer > 1:
        planes = (len(distance) - 1) * finer + 1
        distance = ndimage.zoom(distance, (planes / len(distance), 1, 1), order=1)
    step = spacing / [finer, 1, 1]
    extent = np.array([np.ptp(np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {a})))) + 1 for a in range(3)]) * spacing
    distance = ndimage.gaussian_filter(distance, np.maximum(_LEAST_SMOOTH_MM, _SMOOTH * extent) / step)
    distance -= _level(distance, mask.sum() * finer)
    return DistanceField(distance.astype(np.float32), step, centre * [finer, 1, 1], _moments(mask, spacing))


def _level(distance: np.ndarray, voxels: float) -> float:
    """The level below which a field of distances, interpolated linearly, has a volume of so many voxels."""
    fine = ndimage.zoom(distance, 2, order=1)
    shares = [(2 * n - 1) / (n - 1) for n in distance.shape]  # the outer planes keep their places
    count = round(voxels * float(np.prod(shares)))
    return float(np.partition(fine.ravel(), count)[count])


def _moments(mask: np.ndarray, spacing: np.ndarray) -> Ellipsoid:
    """The solid ellipsoid around 0 of the mask's second moments."""
    points = np.argwhere(mask) * spacing
    spread = np.cov(points.T, bias=True) if len(points) > 1 else np.zeros((3, 3))
    values, vectors = np.linalg.eigh(spread + np.diag(spacing**2) / 12)  # a voxel has a size of its own
    return Ellipsoid(np.zeros(3), np.diag(1 / np.sqrt(5 * values)) @ vectors.T)


@dataclass(frozen=True, eq=False)
class SampledShape:
    """A real node's shape, turned, mirrored and scaled, and at most one inner part. As `phantom.nodes.NodeShape`.

    `short_axis_mm` is that of the mask (see `CollectedNode`) times the scale.
    """

    kind: str
    short_axis_mm: float
    field: DistanceField
    scale: float
    turned: np.ndarray  # [3, 3], orthogonal: from the mask's z, y, x to those of the CT
    inner: Ellipsoid | None
    inner_hu: float
    reach_mm: float  # the whole shape lies inside this radius

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """Distance to the surface in mm, negative inside, at points [..., 3]."""
        own = np.asarray(points, np.float32) @ (self.turned / self.scale).astype(np.float32)
        return (self.scale * self.field.look(own)).astype(np.float32)

    def render(self, points: np.ndarray, edge_mm: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
        """Occupancy and HU offset, float32 [...], at points [..., 3]. Occupancy is a ramp of width edge_mm."""
        points = np.asarray(points, np.float32)
        return render_surface(self.signed_distance(points), edge_mm), render_inner(self, points)


def sample_shape(
    rng: np.random.Generator, node: CollectedNode, scale: float, turned: np.ndarray, kind: str | None = None
) -> SampledShape:
    """The shape of a node, `turned` by an orthogonal matrix and scaled. Hilar fat or necrosis is drawn (kind None)."""
    field = distance_field(node.mask.array, node.mask.spacing_mm)
    short_axis_mm = node.short_axis_mm * scale
    kind = draw_kind(rng, short_axis_mm) if kind is None else kind
    matrix = field.moments.matrix @ turned.T / scale
    inner, inner_hu = draw_inner(rng, kind, Ellipsoid(np.zeros(3), matrix))
    corners = np.argwhere(field.distance < 0)
    reach = np.linalg.norm((corners - field.centre) * field.spacing_mm, axis=1).max(initial=1.0) + field.spacing_mm[1]
    return SampledShape(kind, short_axis_mm, field, scale, turned, inner, inner_hu, float(reach * scale + 0.5))
