"""One patient's anatomy, put together on a coarse grid, because pleura, nodes and lung vessels depend on each other."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from phantom import anatomy_bones, anatomy_lungs
from phantom import anatomy_mediastinum as mediastinum
from phantom.anatomy_body import ANGLES, INNER, Body
from phantom.domain import Domain, structures_of
from phantom.patient import Patient
from phantom.place import Field, PlacedNode, place_nodes
from phantom.shapes import Structure, polar
from phantom.slab import Box, Slab
from phantom.texture import Texture

COARSE_MM = 2.5
Placing = Callable[[np.random.Generator, Patient, Field], list[PlacedNode]]


@dataclass(frozen=True, eq=False)
class Scene:
    """All that is needed to paint a slice. Structures are grouped by where they may be painted."""

    patient: Patient
    body: Body
    diaphragm: anatomy_lungs.Diaphragm
    texture: Texture
    outside: list[Structure]  # shoulders, painted over the chest wall
    spine: list[Structure]
    lungs: list[Structure]
    findings: list[Structure]  # only in aerated lung
    abdomen: list[Structure]  # only below the diaphragm
    mediastinum: list[Structure]
    nodes: list[PlacedNode]
    field: Field  # coarse distances, that to the pleura among them
    effusion_mm: tuple[float, float]  # depth of pleural fluid behind the right and the left lung


def cavity_depth(body: Body, patient: Patient, slab: Slab) -> np.ndarray:
    """Distance [Z, Y, X] in mm outside the inner surface of the chest, negative within."""
    out = np.empty(slab.hu.shape, dtype=np.float32)
    for i, z in enumerate(slab.z):
        y, x = reference_plane(patient, slab, float(z))
        rho, index = polar(y, x, ANGLES)
        out[i] = rho - body.inner_radius(z / patient.scale[2]).astype(np.float32)[index]
    return out


def reference_plane(patient: Patient, slab: Slab, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Reference y and x [Y, X] of the pixels of the slab's slice at height z."""
    y, x = patient.pose.to_patient(np.asarray(z, np.float32), slab.y[:, None], slab.x[None, :])
    return y / np.float32(patient.scale[1]), x / np.float32(patient.scale[0])


def build_scene(
    patient: Patient, streams: dict[str, np.random.Generator], domain: Domain = "usual", place: Placing = place_nodes
) -> Scene:
    """Draw everything of a patient. `place` puts the nodes in.

    `streams` holds one generator per part, so that a change of one part leaves the random numbers of the others alone.
    """
    body = Body(patient, streams["body"])
    diaphragm = anatomy_lungs.Diaphragm(streams["diaphragm"])
    before, after = structures_of(domain, patient, streams["domain"])
    structures = [*before, *mediastinum.mediastinal_structures(patient, streams["mediastinum"]), *after]
    spine = anatomy_bones.spine(patient, streams["spine"])
    coarse = _coarse_slab(patient)
    wall = cavity_depth(body, patient, coarse)
    solid, core = _solids(coarse, patient, structures, spine)
    y, x = reference_plane(patient, coarse, -120.0)
    floor = diaphragm.height(y, x)[None] * patient.scale[2] - coarse.z[:, None, None]  # > 0 below the diaphragm
    pleura = close_gaps(core, patient)
    axes = (coarse.z, coarse.y, coarse.x)
    distance = distance_to_mask(solid)
    barrier = np.maximum(wall, floor)
    nodes = place(streams["nodes"], patient, Field(axes, distance, pleura, barrier))
    pleura = close_gaps(core | _node_mask(coarse, patient, nodes), patient)
    texture = Texture(streams["texture"])
    pleura = pleura + 0.7 * texture.look(texture.lumpy, coarse.z / 2, coarse.y / 2, coarse.x / 2)
    field = Field(axes, distance, pleura.astype(np.float32), wall)
    targets = _lung_points(coarse, patient, (wall < -2) & (pleura > 2) & (floor < -2), streams["lungs"])
    fluid = streams["findings"].uniform(6, 30, 2) * (streams["findings"].random(2) < 0.08)
    return Scene(
        patient=patient,
        body=body,
        diaphragm=diaphragm,
        texture=texture,
        outside=anatomy_bones.shoulders(patient, streams["shoulders"]),
        spine=spine,
        lungs=anatomy_lungs.lung_vessels(patient, streams["lungs"], targets),
        findings=anatomy_lungs.lung_findings(patient, streams["findings"], targets),
        abdomen=anatomy_lungs.abdomen(patient, streams["abdomen"]),
        mediastinum=structures,
        nodes=nodes,
        field=field,
        effusion_mm=(float(fluid[0]), float(fluid[1])),
    )


def _coarse_slab(patient: Patient) -> Slab:
    """A slab of COARSE_MM voxels around the whole chest."""
    sx, sy, sz = patient.scale
    low, high = np.array([-215 * sz, -135 * sy, -165 * sx]), np.array([135 * sz, 125 * sy, 165 * sx])
    corners = np.array([[z, y, x] for z in (low[0], high[0]) for y in (low[1], high[1]) for x in (low[2], high[2])])
    image = patient.pose.to_image(corners)
    z, y, x = (np.arange(a, b, COARSE_MM) for a, b in zip(image.min(0), image.max(0), strict=True))
    return Slab(z, y, x, patient.pose, COARSE_MM)


def _solids(
    coarse: Slab, patient: Patient, structures: list[Structure], spine: list[Structure]
) -> tuple[np.ndarray, np.ndarray]:
    """Where no node may lie, and the core that the pleura wraps, which lacks the outer vessels of the hila."""
    airways = [s for s in structures if s.name.startswith("airway")]
    for s in (*structures, *spine):
        if s.solid and s not in airways:
            coarse.paint(s)
    vessels = coarse.solid > 0.5
    for s in airways:
        coarse.paint(s)
    solid = coarse.solid > 0.5
    z = coarse.z[:, None, None] / patient.scale[2]
    y, x = patient.pose.to_patient(coarse.z[:, None, None], coarse.y[None, :, None], coarse.x[None, None, :])
    y, x = y / patient.scale[1], x / patient.scale[0]
    central = (np.abs(x) < 46) | ((z < -55) & (y < 5) & (x > 0) & (x < 85))
    behind_sternum = y + np.interp(z, INNER[:, 0], INNER[:, 2])
    width = 1.5 + 0.5 * patient.mediastinal_fat_mm + patient.front_slope * np.clip(behind_sternum, 0, 60)
    front = (np.abs(x - 4) < width) & (y < -42) & (z < 66)
    back = (np.abs(x) < 20) & (y > 55)
    inlet = (np.abs(x) < 14 + 0.9 * (z - 50)) & (z > 50) & (y < 5 - 0.9 * np.abs(x))
    inlet = inlet | ((np.abs(x) < 22) & (z > 66))
    # Fat pads lie beside the heart's apex and the right atrium.
    pad = patient.mediastinal_fat_mm * 4.0
    pads = ((x + 36) ** 2 + (y + 66) ** 2 + 0.4 * (z + 118) ** 2 < pad**2) | (
        (x - 52) ** 2 + (y + 74) ** 2 + 0.4 * (z + 122) ** 2 < pad**2
    )
    return solid, (vessels & central) | (solid & (np.abs(x) < 24)) | front | back | inlet | pads


def close_gaps(core: np.ndarray, patient: Patient) -> np.ndarray:
    """Distance in mm to the mediastinal pleura, negative within. It wraps the closed core and a margin of fat."""
    reach, margin = patient.mediastinal_closing_mm, patient.mediastinal_fat_mm
    outer = _depth_mm(~core).astype(np.float32)
    wide = np.stack([ndimage.binary_fill_holes(plane) for plane in outer < reach])
    inner = _depth_mm(wide).astype(np.float32)
    distance = np.where(wide, reach - margin - inner, outer - margin)
    smooth: np.ndarray = ndimage.gaussian_filter(distance, 0.8)
    return smooth


def distance_to_mask(mask: np.ndarray) -> np.ndarray:
    """Distance in mm to the surface of a mask of COARSE_MM voxels, negative within."""
    distance = np.where(mask, COARSE_MM / 2 - _depth_mm(mask), _depth_mm(~mask) - COARSE_MM / 2)
    return distance.astype(np.float32)


def _depth_mm(mask: np.ndarray) -> np.ndarray:
    """Distance in mm from each voxel of a mask of COARSE_MM voxels to the nearest outside, float64; 0 there.

    It is `distance_transform_edt` with that sampling, to the bit: all steps are alike, so whole numbers add up faster.
    """
    nearest = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    squared = np.zeros(mask.shape, np.int32)
    for axis, index in enumerate(nearest):
        steps = index - np.arange(mask.shape[axis], dtype=np.int32).reshape([-1 if a == axis else 1 for a in range(3)])
        steps *= steps
        squared += steps
    depth: np.ndarray = np.sqrt(squared * COARSE_MM**2)
    return depth


def node_box(slab: Slab, patient: Patient, node: PlacedNode) -> tuple[Box, np.ndarray] | None:
    """The box of a slab that holds the node, and its points [Z, Y, X, 3] in mm relative to the node's centre.

    None where the node misses the slab.
    """
    centre = patient.pose.to_image(node.centre_mm)
    box = []
    for axis, c in zip((slab.z, slab.y, slab.x), centre, strict=True):
        i, j = np.searchsorted(axis, c - node.shape.reach_mm - 1), np.searchsorted(axis, c + node.shape.reach_mm + 1)
        if i >= j:
            return None
        box.append(slice(int(i), int(j)))
    grid = np.meshgrid(
        *(a[b] - c for a, b, c in zip((slab.z, slab.y, slab.x), box, centre, strict=True)), indexing="ij"
    )
    return (box[0], box[1], box[2]), np.stack(grid, axis=-1).astype(np.float32)


def _node_mask(coarse: Slab, patient: Patient, nodes: list[PlacedNode]) -> np.ndarray:
    """Where the nodes lie on the coarse slab, bool [Z, Y, X]."""
    mask = np.zeros(coarse.hu.shape, dtype=bool)
    for node in nodes:
        found = node_box(coarse, patient, node)
        if found is not None:
            box, points = found
            mask[box] |= node.shape.signed_distance(points) < 0.3
    return mask


def _lung_points(coarse: Slab, patient: Patient, lung: np.ndarray, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """Random points [N, 3], the patient's z, y, x in mm, in the right lung (key -1) and the left (key 1)."""
    index = np.argwhere(lung)
    if len(index) == 0:
        return {}
    index = index[rng.choice(len(index), min(6000, len(index)), replace=False)]
    z, y, x = coarse.z[index[:, 0]], coarse.y[index[:, 1]], coarse.x[index[:, 2]]
    py, px = patient.pose.to_patient(z, y, x)
    points = np.stack([z, py, px], axis=-1) + rng.uniform(-1.2, 1.2, (len(index), 3))
    return {side: points[side * points[:, 2] > 0] for side in (-1, 1)}
