"""Inserts synthetic lymph nodes into the mediastinal fat of a real chest CT, with that CT's noise and sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.anatomy.crop import find_crop
from lnq.errors import ImageError
from lnq.image.volume import Volume
from lnq.inference.spec import CropSpec
from phantom.nodes import NodeShape, draw_node, draw_node_hu, draw_short_axis_mm
from phantom.slab import Box

FAT_HU = (-150.0, -40.0)  # range of fat in the smoothed CT
SOFT_HU = -20.0  # vessel, heart, muscle and oesophagus lie above
LUNG_HU = -250.0  # lung and airways lie below
MAX_SOFT = 0.3  # part of a node that may lie on soft tissue, for real nodes touch vessels
MAX_LUNG = 0.02  # part of a node that may lie in lung
STERNUM_DEPTH, OESOPHAGUS_DEPTH, SPINE_DEPTH = 0.12, 0.4, 0.68  # parts of the region's depth, from the front
LOWER_CHEST = 0.62  # part of the lungs' height from the apex at which the lower chest begins
MIDLINE_MM = 30.0  # how far from the midline nodes lie in the lower chest; beyond is the fat of stomach and liver
SUBSAMPLES = 5  # planes per slice that are averaged for partial volume


@dataclass(frozen=True, eq=False)
class Background:
    """A real CT with LPS axes, and what insertion needs to know of it."""

    ct: Volume
    smooth: np.ndarray  # HU without most of the noise, float32 [Z, Y, X]
    candidates: np.ndarray  # indices of voxels of mediastinal fat, [N, 3]
    homogeneous: np.ndarray  # indices of voxels well inside soft tissue, where noise is taken from, [M, 3]
    edge_sigma_mm: float  # in-plane blur by scanner and kernel
    phase: str  # contrast phase, one of phantom.patient.PHASES


@dataclass(frozen=True)
class InsertedNode:
    """One node that was put into a CT."""

    label: int  # its value among the labels
    short_axis_mm: float
    centre: tuple[int, int, int]  # index z, y, x


@dataclass(frozen=True, eq=False)
class FittedNode:
    """A node's shape in a place of the CT where it fits."""

    centre: np.ndarray  # index z, y, x
    box: Box  # the part of the CT that holds it
    occupancy: np.ndarray  # float32, of the box, from 0 to 1
    offset_hu: np.ndarray  # float32, of the box


def study_background(volume: Volume) -> Background:
    """Find mediastinal fat, homogeneous tissue, sharpness and contrast phase of a CT with LPS axes.

    Raises ImageError where the two lungs or the fat between them cannot be found.
    """
    crop = find_crop(volume, CropSpec(region_margin_mm=0.0))
    if crop.lungs_found < 2:
        raise ImageError("nodes can only be inserted into a CT with two lungs")
    smooth = _smooth(volume.array, volume.spacing_mm, 1.2)
    inner, corner = smooth[crop.box], np.array([s.start for s in crop.box])
    fat = _stations(crop.region, volume.spacing_mm[2]) & (inner > FAT_HU[0]) & (inner < FAT_HU[1])
    candidates = np.argwhere(fat) + corner
    if len(candidates) < 100:
        raise ImageError("there is no mediastinal fat in this CT to insert nodes into")
    soft = crop.region & (inner > 0) & (inner < 500)
    inside = ndimage.distance_transform_edt(soft, sampling=volume.spacing_mm) > 6.0
    homogeneous = np.argwhere(inside) + corner
    blood_hu = float(np.median(inner[inside])) if len(homogeneous) else 40.0
    phase = "none" if blood_hu < 90 else "arterial" if blood_hu > 200 else "venous"
    return Background(volume, smooth, candidates, homogeneous, _edge_sigma_mm(volume), phase)


def _stations(between_lungs: np.ndarray, column_mm: float) -> np.ndarray:
    """The part of the space between the lungs [Z, Y, X] where mediastinal nodes lie.

    Nodes lie behind the sternum and before the spine. In the lower third of the chest they lie only beside the
    oesophagus, so near the midline. Depth counts from the region's front, height from its top. The midline is that of
    the upper chest. `column_mm`: spacing along x.
    """
    used = np.flatnonzero(np.any(between_lungs, axis=(1, 2)))
    height = (used[-1] - np.arange(len(between_lungs))) / max(1, used[-1] - used[0])  # 0 at the apex
    rows = np.arange(between_lungs.shape[1])
    occupied = np.asarray(between_lungs.any(axis=2))  # [Z, Y]
    front = occupied.argmax(axis=1)
    back = len(rows) - occupied[:, ::-1].argmax(axis=1)
    depth = (rows[None] - front[:, None]) / np.maximum(back - front, 1)[:, None]
    low = height[:, None] > LOWER_CHEST
    allowed = (depth < SPINE_DEPTH) & (depth > np.where(low, OESOPHAGUS_DEPTH, STERNUM_DEPTH))
    columns = np.arange(between_lungs.shape[2])
    midline = np.average(columns, weights=between_lungs[~low[:, 0]].sum(axis=(0, 1)))
    central = np.abs(columns - midline) * column_mm <= MIDLINE_MM
    stations: np.ndarray = between_lungs & allowed[:, :, None] & (central | ~low[:, :, None])
    return stations


def insert_nodes(background: Background, seed: int, count: int) -> tuple[Volume, Volume, list[InsertedNode]]:
    """Insert up to `count` nodes of random shape and size. The same seed gives the same nodes.

    Returns the CT (int16), labels (uint16, 1 to n) and the nodes. Nodes lie in fat and never touch each other. At most
    30 % of a node lies on soft tissue.
    """
    rng = np.random.default_rng(seed)
    ct = background.ct.array.astype(np.float32)
    labels = np.zeros(ct.shape, dtype=np.uint16)
    nodes: list[InsertedNode] = []
    for _ in range(count):
        shape = draw_node(rng, draw_short_axis_mm(rng))
        fitted = _find_place(rng, background, labels, shape)
        if fitted is None:
            continue
        box, occupancy = fitted.box, fitted.occupancy
        hu = draw_node_hu(rng, background.phase) + fitted.offset_hu + _noise(rng, background, occupancy.shape)
        ct[box] += occupancy * (hu - ct[box])
        label = len(nodes) + 1
        labels[box][occupancy >= 0.5] = label
        z, y, x = (int(c) for c in fitted.centre)
        nodes.append(InsertedNode(label, shape.short_axis_mm, (z, y, x)))
    ct = np.clip(np.rint(ct), -1024, 3071).astype(np.int16)
    return background.ct.with_array(ct), background.ct.with_array(labels), nodes


def _find_place(
    rng: np.random.Generator, background: Background, labels: np.ndarray, shape: NodeShape, tries: int = 60
) -> FittedNode | None:
    """Put the node where it fits in the fat: at the first such place of `tries` random ones. None where none fits."""
    for centre in rng.choice(background.candidates, tries):
        fitted = _fit(shape, centre, background)
        box, occupancy = fitted.box, fitted.occupancy
        volume = float(occupancy.sum())
        if not (occupancy >= 0.5).any() or labels[box][occupancy > 0.05].any():
            continue
        hu = background.smooth[box]
        soft = float(occupancy[hu > SOFT_HU].sum()) / volume
        lung = float(occupancy[hu < LUNG_HU].sum()) / volume
        if soft <= MAX_SOFT and lung <= MAX_LUNG:
            return fitted
    return None


def _fit(shape: NodeShape, centre: np.ndarray, background: Background) -> FittedNode:
    """The shape on the CT's grid: averaged through each slice, and blurred in the plane like the CT."""
    spacing = np.array(background.ct.spacing_mm)
    reach = np.ceil((shape.reach_mm + 3 * background.edge_sigma_mm) / spacing).astype(int)
    low = np.maximum(centre - reach, 0)
    high = np.minimum(centre + reach + 1, background.ct.shape)
    z, y, x = (np.arange(a, b) - c for a, b, c in zip(low, high, centre, strict=True))
    shifts = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    fine_z = (z[:, None] + shifts).ravel()
    grid = np.stack(np.meshgrid(fine_z * spacing[0], y * spacing[1], x * spacing[2], indexing="ij"), axis=-1)
    occupancy, offset = shape.render(grid, edge_mm=float(spacing[1]))
    sigma = (0.0, *(background.edge_sigma_mm / spacing[1:]))

    def on_grid(a: np.ndarray) -> np.ndarray:
        thick = a.reshape(len(z), SUBSAMPLES, len(y), len(x)).mean(axis=1)  # [Z, Y, X]
        blurred: np.ndarray = ndimage.gaussian_filter(thick, sigma)
        return blurred

    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    return FittedNode(centre, box, on_grid(occupancy), on_grid(offset))


def _noise(rng: np.random.Generator, background: Background, size: tuple[int, ...]) -> np.ndarray:
    """The CT's own noise in HU, [Z, Y, X]: what its smoothed copy lacks at a random place in homogeneous tissue."""
    if len(background.homogeneous) == 0:
        return np.zeros(size, dtype=np.float32)
    corner_limit = np.array(background.ct.shape) - size
    corner = rng.choice(background.homogeneous) - np.array(size) // 2
    box = tuple(slice(c, c + n) for c, n in zip(np.clip(corner, 0, np.maximum(corner_limit, 0)), size, strict=True))
    noise = background.ct.array[box] - background.smooth[box]
    spread = 1.4826 * np.median(np.abs(noise - np.median(noise)))
    without_edges: np.ndarray = np.clip(noise, -3 * spread, 3 * spread)  # the box may touch an edge, which is no noise
    return without_edges


def _smooth(array: np.ndarray, spacing_mm: tuple[float, float, float], sigma_mm: float) -> np.ndarray:
    """Smooth HU [Z, Y, X] in the plane alone, so that thick slices keep their own HU."""
    sigma = (0.0, sigma_mm / spacing_mm[1], sigma_mm / spacing_mm[2])
    smooth: np.ndarray = ndimage.gaussian_filter(np.maximum(array, -1024).astype(np.float32), sigma)
    return smooth


def _edge_sigma_mm(volume: Volume) -> float:
    """In-plane blur as the sigma of a Gaussian: step height / (steepest slope * sqrt(2 pi)) across lung surfaces.

    It is measured along x where a voxel of lung (below -700 HU) and one of soft tissue (above 0) lie within 6 mm. Where
    there is none, it is 0.7 mm.
    """
    step = max(2, round(6.0 / volume.spacing_mm[2]))
    hu = volume.array[:, ::4].astype(np.float32)
    a, b = hu[:, :, :-step], hu[:, :, step:]
    edge = (np.minimum(a, b) < -700) & (np.maximum(a, b) > 0) & (np.maximum(a, b) < 200) & (np.minimum(a, b) > -950)
    slope = np.abs(np.diff(hu, axis=2))  # [Z, Y, X - 1]
    steepest = ndimage.maximum_filter1d(slope, step, axis=2, origin=-(step // 2))[:, :, : a.shape[2]]
    if not edge.any():
        return 0.7
    sigma = np.abs(a - b)[edge] / (steepest[edge] * np.sqrt(2 * np.pi)) * volume.spacing_mm[2]
    return float(np.clip(np.percentile(sigma, 25), 0.3, 1.2))
