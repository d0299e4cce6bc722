"""A scene becomes ideal HU and node labels on an image's grid. It goes slab by slab, so that memory stays small."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phantom.paint_body import paint_couch, paint_slice
from phantom.scene import Scene, node_box, reference_plane
from phantom.shapes import Structure
from phantom.slab import Box, Slab

VOXELS_PER_SLAB = 1_500_000  # few enough that a slab's arrays stay near the cache


@dataclass(frozen=True, eq=False)
class PaintedNode:
    """What a slab shows of a node."""

    index: int  # into the scene's nodes
    box: Box
    occupancy: np.ndarray  # float32, of the box


def render(
    scene: Scene, z_mm: np.ndarray, y_mm: np.ndarray, x_mm: np.ndarray, slice_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """HU float32 [Z, Y, X], averaged over each slice's thickness, and labels uint16: 1 + index into `scene.nodes`."""
    parts = max(1, round(slice_mm / 1.5))
    offsets = (np.arange(parts) + 0.5) / parts * slice_mm - slice_mm / 2
    edge = float(y_mm[1] - y_mm[0])
    hu = np.empty((len(z_mm), len(y_mm), len(x_mm)), dtype=np.float32)
    labels = np.zeros(hu.shape, dtype=np.uint16)
    step = max(1, VOXELS_PER_SLAB // (parts * len(y_mm) * len(x_mm)))
    for first in range(0, len(z_mm), step):
        here = z_mm[first : first + step]
        slab = Slab((here[:, None] + offsets).ravel(), y_mm, x_mm, scene.patient.pose, edge)
        seen = paint_scene(scene, slab)
        stop = first + len(here)
        hu[first:stop] = slab.hu.reshape(len(here), parts, *slab.hu.shape[1:]).mean(1)
        _label(labels[first:stop], seen, parts)
    return hu, labels


def paint_scene(scene: Scene, slab: Slab) -> list[PaintedNode]:
    """Paint everything onto the slab, in order. Returns the nodes that it shows."""
    patient = scene.patient
    depth = _body(scene, slab)
    for s in scene.outside:
        _paint_where(slab, s, np.clip(0.5 + depth / slab.edge_mm, 0, 1), scene)
    lung, below = _cavity(scene, slab, depth)
    for s in scene.abdomen:
        _paint_where(slab, s, below, scene)
    for s in scene.findings:
        _paint_where(slab, s, lung, scene)
    for s in (*scene.spine, *scene.lungs):
        slab.paint(s, scene.texture)
    before = slab.hu.copy()
    for s in scene.mediastinum:
        slab.paint(s, scene.texture)
    seen = []
    for i, node in enumerate(scene.nodes):
        found = node_box(slab, patient, node)
        if found is None:
            continue
        box, points = found
        occupancy, offset = node.shape.render(points, slab.edge_mm)
        occupancy = np.minimum(occupancy, 1.0 - slab.solid[box])
        texture = 4.0 * scene.texture.look(scene.texture.fine, slab.z[box[0]], slab.y[box[1]], slab.x[box[2]])
        slab.hu[box] += occupancy * (node.hu + offset + texture - before[box])
        seen.append(PaintedNode(i, box, occupancy))
    return seen


def _paint_where(slab: Slab, s: Structure, where: np.ndarray, scene: Scene) -> None:
    """Paint a structure only as far as `where` [Z, Y, X], from 0 to 1, says."""
    found = slab.occupancy(s)
    if found is None:
        return
    occupancy, box = found
    occupancy = occupancy * where[box]
    value: float | np.ndarray = s.hu
    if s.texture_hu:
        texture = scene.texture
        value = s.hu + s.texture_hu * texture.look(texture.fine, slab.z[box[0]], slab.y[box[1]], slab.x[box[2]])
    slab.hu[box] += occupancy * (value - slab.hu[box])


def _body(scene: Scene, slab: Slab) -> np.ndarray:
    """Paint chest wall, skin and couch. Returns the depth in mm [Z, Y, X] outside the chest's inner surface."""
    depth = np.empty_like(slab.hu)
    for i, z in enumerate(slab.z):
        y, x = reference_plane(scene.patient, slab, float(z))
        reference_z = float(z) / scene.patient.scale[2]
        slab.hu[i], depth[i] = paint_slice(scene.body, reference_z, y, x, slab.edge_mm, scene.texture)
    paint_couch(scene.body, slab)
    return depth


def _cavity(scene: Scene, slab: Slab, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill the chest. Lung lies where neither mediastinum nor abdomen does.

    Returns how far lung and abdomen fill each voxel, from 0 to 1, both [Z, Y, X].
    """
    patient, edge, texture = scene.patient, slab.edge_mm, scene.texture
    inside = np.clip(0.5 - depth / edge, 0, 1)
    pleura = upsample(scene.field.mediastinum, scene.field.axes_mm, (slab.z, slab.y, slab.x))
    y, x = reference_plane(patient, slab, -120.0)
    floor = scene.diaphragm.height(y, x)[None] * patient.scale[2] - slab.z[:, None, None]
    below = inside * np.clip(0.5 + floor / 3.0, 0, 1)
    lung = inside * np.clip(0.5 + pleura / edge, 0, 1) * np.clip(0.5 - floor / 3.0, 0, 1)
    haze = np.clip(texture.look(texture.lumpy, slab.z * 0.8, slab.y * 0.8, slab.x * 0.8) + 0.5, 0, 2)
    slab.hu += (patient.haze_hu * inside * (1 - below) * (1 - lung) * np.clip(0.5 - pleura / edge, 0, 1)) * haze
    air = patient.hu["lung"] + 0.35 * y[None] + 12 * texture.look(texture.fine, slab.z, slab.y, slab.x)
    air += 14 * texture.look(texture.lumpy, slab.z / 2, slab.y / 2, slab.x / 2)
    muscle = below * np.clip(0.5 + (3.0 - floor) / 1.5, 0, 1)
    slab.hu += muscle * (patient.hu["muscle"] - slab.hu)
    slab.hu += lung * (air - slab.hu)
    for side, fluid_mm in zip((-1, 1), scene.effusion_mm, strict=True):
        if fluid_mm > 0:
            crescent = (side * x > 0)[None] * np.clip(
                (depth + fluid_mm * (0.6 - slab.z[:, None, None] / 160)) / 3, 0, 1
            )
            fluid = lung * crescent * np.clip((y - 25) / 20, 0, 1)[None]
            slab.hu += fluid * (12.0 - slab.hu)
            lung = lung * (1 - crescent)
    return lung, below


def upsample(values: np.ndarray, axes_mm: Sequence[np.ndarray], wanted_mm: Sequence[np.ndarray]) -> np.ndarray:
    """Interpolate values [Z, Y, X] linearly to a grid with parallel axes. Beyond the border, its value goes on."""
    out = values
    for axis, (have, want) in enumerate(zip(axes_mm, wanted_mm, strict=True)):
        t = np.clip((want - have[0]) / (have[1] - have[0]), 0, len(have) - 1.001)
        low = t.astype(int)
        share = (t - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = np.take(out, low, axis) * (1 - share) + np.take(out, low + 1, axis) * share
    return out


def _label(labels: np.ndarray, seen: list[PaintedNode], parts: int) -> None:
    """Mark the voxels that a node fills at least by half. Of two, the node that fills more wins.

    labels: [Z, Y, X], changed in place. parts: the slices of the slab in each of them.
    """
    best = np.full(labels.shape, 0.4999, dtype=np.float32)
    for node in seen:
        plane = node.occupancy.shape[1:]
        fine = np.zeros((labels.shape[0] * parts, *plane), dtype=np.float32)
        fine[node.box[0]] = node.occupancy
        share = fine.reshape(labels.shape[0], parts, *plane).mean(1)
        here = (slice(None), *node.box[1:])
        more = share > best[here]
        labels[here][more] = node.index + 1
        best[here] = np.maximum(best[here], share)
