"""How much each voxel of a sample counts, so that a small node is worth as much as a larger one.

Dice and cross entropy are sums over voxels: a missed node of 5 mm costs an eighth of one of 10 mm. Weighing components
by their size is the remedy of Shirokikh et al., MICCAI 2020 ("Universal loss reweighting to balance lesion size
inequality in 3D medical image segmentation"); here nodes alone are weighed, and only small ones.
"""

from __future__ import annotations

import math

import numpy as np

from lnq.image.components import label
from lnq.inference.spec import Triple

MOST = 16.0
"""The largest weight: what is left of a node of one voxel would else outweigh all the rest."""


def node_weights(node: np.ndarray, spacing_mm: Triple, diameter_mm: float) -> np.ndarray:
    """Weight of each voxel of a patch, float32 [Z, Y, X], of its nodes, bool [Z, Y, X].

    A node smaller than a ball of the diameter has the ball's volume by its own, at most `MOST`. All else has 1, also
    nodes that the patch's border cuts, as nobody knows their size.
    """
    numbered, count = label(node)
    volumes = np.bincount(numbered.ravel(), minlength=count + 1) * math.prod(spacing_mm)
    weights = np.clip(math.pi / 6.0 * diameter_mm**3 / np.maximum(volumes, 1e-9), 1.0, MOST).astype(np.float32)
    weights[0] = 1.0
    for axis in range(node.ndim):
        weights[numbered.take((0, -1), axis)] = 1.0
    of_voxels: np.ndarray = weights[numbered]
    return of_voxels
