"""The partial annotation: which nodes of a scan a hurried reader annotates, and how far their borders are off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.image.volume import bounding_box

_IN_PLANE = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]


@dataclass(frozen=True)
class Annotator:
    """A reader who annotates some of a scan's nodes.

    Raises ValueError for a share outside 0 to 1, and for a negative number of voxels.
    """

    share: float = 0.2  # of a scan's nodes that is annotated, on average; at least one is
    off_voxels: int = 0  # by how many voxels in the plane a border is off at most, at least one; 0: none is

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"The share of annotated nodes must be above 0 and at most 1, not {self.share:g}")
        if self.off_voxels < 0:
            raise ValueError(f"Borders cannot be off by {self.off_voxels} voxels")

    def choose(self, rng: np.random.Generator, short_axes_mm: Sequence[float]) -> list[int]:
        """Draw which nodes are annotated, as indices, at least one where there is any.

        A node's chance grows with the square of its short axis.
        """
        if not short_axes_mm:
            return []
        count = max(1, int(rng.binomial(len(short_axes_mm), self.share)))
        weight = np.array(short_axes_mm) ** 2
        return [int(i) for i in rng.choice(len(short_axes_mm), count, replace=False, p=weight / weight.sum())]

    def outline(self, rng: np.random.Generator, labels: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
        """The annotation of the chosen labels of `labels` [Z, Y, X]: uint8, 1 in nodes as this reader outlines them.

        Where borders are off, each node is drawn too large or too small, never so small that nothing is left.
        """
        marked = np.isin(labels, chosen)
        if self.off_voxels:
            marked = np.zeros(labels.shape, bool)
            for label in chosen:
                off = int(rng.integers(1, self.off_voxels + 1)) * (1 if rng.random() < 0.5 else -1)
                box = bounding_box(labels == label, margin=(0, self.off_voxels, self.off_voxels))
                marked[box] |= _moved(labels[box] == label, off)
        return marked.astype(np.uint8)


HURRIED = Annotator()
"""As the challenge's readers: one node out of five."""


def _moved(node: np.ndarray, off_voxels: int) -> np.ndarray:
    """A node with its border moved in the plane, outwards or (below 0) inwards, as far as it does not vanish."""
    moved: np.ndarray
    if off_voxels > 0:
        moved = ndimage.binary_dilation(node, _IN_PLANE, off_voxels)
        return moved
    while off_voxels:
        moved = ndimage.binary_erosion(node, _IN_PLANE, -off_voxels)
        if moved.any():
            return moved
        off_voxels += 1
    return node
