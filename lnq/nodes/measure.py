"""Measure the nodes of a mask: their size as radiologists measure it, density and position."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from lnq.anatomy.airway import find_carina
from lnq.anatomy.region import midline_column
from lnq.image import components
from lnq.image.volume import Volume, bounding_box
from lnq.nodes.stations import station_of

SHORT_AXES_MM = (10.0, 15.0)  # RECIST 1.1: a node is pathological from 10 mm, and a target lesion from 15 mm
_LEAST_MARKED = 0.5  # part of a node's voxels that a network must mark to agree
_MIDDLE_MM = 10.0  # half-width of the middle, on each side of the midline

Side = Literal["left", "right", "middle"]  # the patient's


@dataclass(frozen=True)
class Node:
    """One node: a 26-connected component of the mask.

    Short and long axis belong to the axial slice with the largest short axis. They are distances between parallel lines
    that touch the slice's convex outline. The diameter is the longest straight line within the convex outline in 3-D.
    The axial plane is that of the array's axes y and x, even where a scan is oblique.
    """

    number: int  # counted from 1, from the head downwards
    volume_mm3: float
    short_axis_mm: float
    long_axis_mm: float
    diameter_mm: float
    short_axis_class: str  # see SHORT_AXES_MM
    mean_hu: float
    mean_probability: float
    centroid_lps_mm: tuple[float, float, float]
    side: Side | None  # None where fewer than two lungs give no midline
    above_carina_mm: float | None  # negative below the carina; None where the carina was not found
    agreement: float | None = None  # share of the networks that mark at least half of it; None where there is one
    station: str | None = None  # see `lnq.nodes.stations`; None where the carina was not found


@dataclass(frozen=True)
class Landmarks:
    """Landmarks that positions are measured from."""

    midline_l_mm: float | None  # L of the carina, or else of the middle between the lungs' upper halves
    carina_lps_mm: tuple[float, float, float] | None
    lungs_mm: tuple[float, float, float] | None = None  # extent z, y, x of the box around both lungs


def find_landmarks(chest: Volume, region: np.ndarray) -> Landmarks:
    """The landmarks of a chest (HU in LPS axes, cropped to both lungs) with its mediastinal region (bool [Z, Y, X])."""
    carina = find_carina(chest, region)
    if carina is not None:
        z, y, x = (float(count * spacing) for count, spacing in zip(chest.shape, chest.spacing_mm, strict=True))
        return Landmarks(carina[0], carina, (z, y, x))
    middle = chest.affine @ [region.shape[0] / 2, region.shape[1] / 2, midline_column(region), 1.0]
    return Landmarks(float(middle[0]), None)


def measure_nodes(
    mask: Volume, hu: np.ndarray, probability: np.ndarray, landmarks: Landmarks
) -> tuple[list[Node], np.ndarray]:
    """Measure every node of a mask in LPS axes (uint8 [Z, Y, X]), from the head downwards.

    `hu` and `probability` (float32 [Z, Y, X]) lie on the mask's grid. The second result, int16 [Z, Y, X], holds each
    node's number in its voxels.
    """
    numbered = np.zeros(mask.shape, np.int16)
    if not mask.array.any():
        return [], numbered
    around = bounding_box(mask.array)  # masks are mostly empty
    part, hu, probability = mask.crop(around), hu[around], probability[around]
    labels, count = components.label(part.array)
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        node = labels[box] == label
        found.append(_measure(node, part.crop(box), hu[box][node], probability[box][node], landmarks))
    order = sorted(range(count), key=lambda index: -found[index].centroid_lps_mm[2])
    numbers = np.zeros(count + 1, np.int16)
    numbers[np.array(order, int) + 1] = np.arange(1, count + 1)
    nodes = [dataclasses.replace(found[index], number=number) for number, index in enumerate(order, start=1)]
    numbered[around] = numbers[labels]
    return nodes, numbered


def agreement(numbers: np.ndarray, count: int, marks: Iterable[np.ndarray]) -> list[float]:
    """The share of networks that agree on each of `count` nodes: they mark at least half of its voxels.

    `numbers`, int [Z, Y, X], holds each node's number in its voxels, counted from 1. `marks`, bool [Z, Y, X], is what
    each network marks on the same grid.
    """
    inside = numbers > 0
    own = numbers[inside]
    voxels = np.bincount(own, minlength=count + 1)
    agree = [np.bincount(own[mark[inside]], minlength=count + 1) >= _LEAST_MARKED * voxels for mark in marks]
    shares: list[float] = np.mean(agree, axis=0)[1:].tolist()
    return shares


def _measure(node: np.ndarray, grid: Volume, hu: np.ndarray, probability: np.ndarray, landmarks: Landmarks) -> Node:
    """Measure one node, bool on `grid`, from the HU and probabilities of its voxels. Its number stays 0."""
    short, long = axes_mm(node, grid.spacing_mm)
    left, posterior, superior = (grid.affine @ [*np.argwhere(node).mean(axis=0), 1.0])[:3]
    carina = landmarks.carina_lps_mm
    from_carina = None if carina is None else np.subtract((left, posterior, superior), carina)
    return Node(
        number=0,
        volume_mm3=float(np.count_nonzero(node)) * grid.voxel_volume_mm3,
        short_axis_mm=short,
        long_axis_mm=long,
        diameter_mm=diameter_mm(node, grid.spacing_mm),
        short_axis_class=_short_axis_class(short),
        mean_hu=float(hu.mean(dtype=np.float64)),
        mean_probability=float(probability.mean(dtype=np.float64)),
        centroid_lps_mm=(float(left), float(posterior), float(superior)),
        side=side_of(left, landmarks.midline_l_mm),
        above_carina_mm=None if from_carina is None else float(from_carina[2]),
        station=_station(from_carina, landmarks),
    )


def _station(from_carina_mm: np.ndarray | None, landmarks: Landmarks) -> str | None:
    if from_carina_mm is None or landmarks.lungs_mm is None:
        return None
    return station_of(from_carina_mm.tolist(), landmarks.lungs_mm)


def _short_axis_class(short_axis_mm: float) -> str:
    """The size class of a short axis, after rounding to 0.1 mm as in reports."""
    pathological, target = SHORT_AXES_MM
    short_axis_mm = round(short_axis_mm, 1)
    if short_axis_mm < pathological:
        return f"below {pathological:g} mm"
    return f"{pathological:g} to {target:g} mm" if short_axis_mm < target else f"{target:g} mm and more"


def side_of(left_mm: float, midline_mm: float | None) -> Side | None:
    """The side of a point by its L, in mm, and that of the midline; None where there is no midline."""
    if midline_mm is None:
        return None
    offset = left_mm - midline_mm
    return "middle" if abs(offset) <= _MIDDLE_MM else "left" if offset > 0 else "right"


def axes_mm(node: np.ndarray, spacing_mm: Sequence[float]) -> tuple[float, float]:
    """Short and long axis of one node, bool [Z, Y, X] in LPS, in the axial slice with the largest short axis.

    They are the least and the greatest distance of two parallel lines that enclose the slice's pixels, in mm. Both are
    0 for an empty mask. `spacing_mm` is (z, y, x).
    """
    slices = np.flatnonzero(node.any(axis=(1, 2)))
    return max((_slice_axes_mm(node[z], spacing_mm[1:]) for z in slices), default=(0.0, 0.0))


def _slice_axes_mm(pixels: np.ndarray, spacing_mm: Sequence[float]) -> tuple[float, float]:
    hull = _outline(pixels, spacing_mm)
    corners = hull.points[hull.vertices]
    distance = corners @ hull.equations[:, :2].T + hull.equations[:, 2]  # [corners, sides], <= 0
    return float(-distance.min(axis=0).max()), float(pdist(corners).max())


def diameter_mm(node: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """The longest straight line from surface to surface of a node, bool [Z, Y, X]; 0 for an empty mask."""
    if not node.any():
        return 0.0
    hull = _outline(node, spacing_mm)
    return float(pdist(hull.points[hull.vertices]).max())


def _outline(voxels: np.ndarray, spacing_mm: Sequence[float]) -> ConvexHull:
    """Convex hull, in mm, of the centres of the pixels' edges or the voxels' faces.

    An outline through the voxels' centres would be one voxel too narrow. One through their corners would be too wide
    along diagonals.
    """
    half = np.eye(voxels.ndim) / 2
    faces = np.concatenate([half, -half])
    border = voxels & ~ndimage.binary_erosion(voxels)
    points = (np.argwhere(border)[:, None] + faces).reshape(-1, voxels.ndim)
    return ConvexHull(points * np.asarray(spacing_mm))
