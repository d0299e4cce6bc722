"""Whether a label would fit its image better if it were moved by a few voxels.

A node is soft tissue in fat or lung, so the HU inside its label exceed those of a rim around it. That edge is steepest
where the label lies right. Nodes that touch vessels, muscle or each other have a weaker edge there, so all nodes of a
case are looked at together.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

from lnq.image.components import label as label_components
from lnq.image.volume import Volume, bounding_box
from training.data.measures.record import Shift
from training.data.measures.tissue import SOFT_HU

REACH_MM = 9.0  # farthest that a label is moved along each axis: beyond, it would meet other structures
_STEP_MM = 1.5  # between the places tried, or a voxel where that is larger
_RIM_MM = 3.0  # width of the rim
_CLIP_HU = (-150.0, 150.0)  # fat to soft tissue: lung counts as fat, contrast medium as tissue
_MOST_VOXELS = 6000  # that are looked at, inside and in the rim each: enough for means
_ALIKE_HU = 2.0  # edges that differ by less are alike
_WORTH_HU = 15.0  # a node whose edge grows by less fits as well where it lies


def best_shift(image: Volume, label: np.ndarray) -> Shift | None:
    """Where the label (above 0, [Z, Y, X]) fits the image (HU) best; None where it marks nothing.

    Of places that fit alike the nearest is taken.
    """
    if not label.any():
        return None
    numbered, count = label_components(label)
    clipped = np.clip(image.array, *_CLIP_HU).astype(np.float32)
    inner, rim = _samples(numbered, count, image.spacing_mm)
    steps = _steps(image.spacing_mm)
    edges = np.array([_edges(clipped, inner, rim, step, count) for step in steps])  # [steps, nodes]
    volumes = np.bincount(numbered.ravel(), minlength=count + 1)[1:].astype(float)
    weights = volumes / volumes.sum()
    whole = edges @ weights
    still = next(i for i, step in enumerate(steps) if not any(step))
    best = int(np.argmax(whole >= whole.max() - _ALIKE_HU))  # the first: the steps are sorted by length
    soft, best_soft = (_soft(image.array, inner[0], steps[i]) for i in (still, best))
    z, y, x = (round(step * mm, 1) for step, mm in zip(steps[best], image.spacing_mm, strict=True))
    return Shift(
        best_mm=(z, y, x),
        edge_hu=round(float(whole[still]), 1),
        best_edge_hu=round(float(whole[best]), 1),
        soft=round(soft, 3),
        best_soft=round(best_soft, 3),
        agreeing=round(float(weights[edges[best] - edges[still] > _WORTH_HU].sum()), 3),
    )


Voxels = tuple[np.ndarray, np.ndarray]
"""Indices [N, 3] of voxels, and the node (from 0) that each belongs to [N]."""


def _steps(spacing_mm: tuple[float, float, float]) -> list[tuple[int, int, int]]:
    """The moves to try, in voxels, the shortest first."""
    ranges = []
    for spacing in spacing_mm:
        stride = max(1, round(_STEP_MM / spacing))
        most = int(REACH_MM / (spacing * stride)) * stride
        ranges.append(range(-most, most + 1, stride))
    along_z, along_y, along_x = ranges
    return sorted(
        product(along_z, along_y, along_x), key=lambda step: float(np.linalg.norm(np.multiply(step, spacing_mm)))
    )


def _samples(numbered: np.ndarray, count: int, spacing_mm: tuple[float, float, float]) -> tuple[Voxels, Voxels]:
    """Voxels inside the nodes, and in the rims around them that no node holds."""
    margin = tuple(int(np.ceil(_RIM_MM / spacing)) for spacing in spacing_mm)
    box = bounding_box(numbered > 0, margin)  # type: ignore[arg-type]
    part, corner = numbered[box], [side.start for side in box]
    distance, nearest = ndimage.distance_transform_edt(part == 0, spacing_mm, return_indices=True)
    owner = part[tuple(nearest)]
    found = []
    for where in (part > 0, (part == 0) & (distance <= max(_RIM_MM, min(spacing_mm)))):
        index = np.argwhere(where)
        index = index[:: max(1, -(-len(index) // _MOST_VOXELS))]
        found.append((index + corner, owner[tuple(index.T)] - 1))
    return found[0], found[1]


def _edges(hu: np.ndarray, inner: Voxels, rim: Voxels, step: tuple[int, int, int], count: int) -> np.ndarray:
    """The mean inside each node less that of its rim, when both are moved by a step [nodes]. Beyond the image the
    nearest voxel counts."""
    means = []
    for index, owner in (inner, rim):
        moved = tuple(np.clip((index + step).T, 0, np.array(hu.shape)[:, None] - 1))
        total = np.bincount(owner, weights=hu[moved], minlength=count)
        means.append(total / np.maximum(np.bincount(owner, minlength=count), 1))
    return means[0] - means[1]


def _soft(hu: np.ndarray, index: np.ndarray, step: tuple[int, int, int]) -> float:
    """The share of soft tissue inside the label, when that is moved by a step."""
    values = hu[tuple(np.clip((index + step).T, 0, np.array(hu.shape)[:, None] - 1))]
    return float(((values >= SOFT_HU[0]) & (values <= SOFT_HU[1])).mean())
