"""Copy-paste of annotated nodes (after Ghiasi et al. 2021): copies of many sizes are laid into the fat of patches.

Where one node in five is annotated, a network learns that what looks like a node is none four times in five. Copies are
annotated all, small ones too, which readers annotate least, and lie among the nodes that are not annotated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.image.components import label as label_components
from lnq.image.volume import Box, bounding_box
from training.data.certain import FAT_HU
from training.data.prepared import PreparedCase

VERSION = 2  # of the rules below
_LARGEST_MM = 80.0  # of the box around a node's middle that it is cut from; what reaches its border is not copied
_LEAST_VOXELS = 8  # of a node that is copied: fewer have no shape
_LEAST_COPY = 3  # voxels of a copy
_SIZES = (0.5, 1.3)  # of a copy beside its node
_STRETCH = (0.85, 1.15)  # each axis, besides
_IN_FAT = 0.5  # the part of a copy that lies in fat at least: it must not look like a piece of heart or aorta
_HALF = 0.499  # of a voxel in a copy: it is node; two slices that become one are both half filled
_BLUR = 0.4  # voxels: deviation of a copy's edge


@dataclass(frozen=True, eq=False)
class CopiedNode:
    """An annotated node with what it looks like, cut out with a voxel around it."""

    hu: np.ndarray  # float32 [Z, Y, X], outside the node as inside it, so that edges do not mix with what lay there
    node: np.ndarray  # float32 [Z, Y, X], 1 in the node


def find_nodes(cases: Sequence[PreparedCase]) -> list[CopiedNode]:
    """The annotated nodes of prepared cases. Fat under an annotation does not count: borders may be drawn too far out.

    Raises ValueError where a case is damaged.
    """
    return [found for case in cases for centre in case.info.node_centres if (found := _node_at(case, centre))]


def _node_at(case: PreparedCase, centre: Sequence[int]) -> CopiedNode | None:
    half = [round(_LARGEST_MM / 2 / spacing) for spacing in case.info.spacing_mm]
    start, size = np.array(centre) - half, (2 * half[0] + 1, 2 * half[1] + 1, 2 * half[2] + 1)
    numbers, _ = label_components(case.box("label", start, size) > 0)
    own = numbers == numbers[tuple(half)]
    box = bounding_box(own)
    if any(part.start == 0 or part.stop == length for part, length in zip(box, size, strict=True)):
        return None  # larger than the box
    hu = case.box("image", start, size)[box].astype(np.float32)
    node = own[box] & (hu >= FAT_HU[1])
    if node.sum() < _LEAST_VOXELS:
        return None
    alone = np.where(node, hu, hu[node].mean())
    return CopiedNode(np.pad(alone, 1, mode="edge"), np.pad(node.astype(np.float32), 1))


def paste(
    hu: np.ndarray,
    label: np.ndarray,
    region: np.ndarray,
    nodes: Sequence[CopiedNode],
    most: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Lay up to `most` copies into a patch; returns its HU, float32, and its label, both [Z, Y, X].

    `hu`, `label` (above 0: annotated) and `region` (above 0: nodes can be) are [Z, Y, X] too, and stay as they are. A
    copy's middle lies in the region, and half of it in fat at least. It covers no annotation and no other copy, but may
    cover denser tissue, and nodes that are not annotated.
    """
    hu, label = hu.astype(np.float32), label.copy()
    fat = (hu > FAT_HU[0]) & (hu < FAT_HU[1])
    places = np.flatnonzero(fat & (region > 0) & (label == 0))
    if not (len(places) and len(nodes)):
        return hu, label
    for _ in range(int(rng.integers(most + 1))):
        copied, node = _changed(nodes[int(rng.integers(len(nodes)))], rng)
        place = np.unravel_index(places[int(rng.integers(len(places)))], hu.shape)
        there, of_copy = _overlap(np.array(place) - np.array(node.shape) // 2, node.shape, hu.shape)
        inside = node[of_copy] >= _HALF
        if inside.sum() < _LEAST_COPY or label[there][inside].any() or fat[there][inside].mean() < _IN_FAT:
            continue
        opacity = ndimage.gaussian_filter(node, _BLUR)[of_copy]
        hu[there] += (copied[of_copy] - hu[there]) * opacity
        label[there][inside] = 1
        fat[there][inside] = False
    return hu, label


def _changed(node: CopiedNode, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """HU and node of a copy, mirrored, turned by a quarter in the plane, of another size, and stretched."""
    scale = rng.uniform(*_SIZES) * rng.uniform(*_STRETCH, 3)
    flips = tuple(slice(None, None, -1) if rng.random() < 0.5 else slice(None) for _ in range(3))
    turned = (0, 2, 1) if rng.random() < 0.5 else (0, 1, 2)
    arrays = [array[flips].transpose(turned) for array in (node.hu, node.node)]
    before = np.array(arrays[0].shape)
    after = before + 2 * np.ceil((before * scale - before) / 2).astype(
        int
    )  # odd stays odd: a flat node keeps its slice
    offset, shape = (before - 1) / 2 - (after - 1) / 2 / scale, tuple(after.tolist())
    hu, inside = (
        ndimage.affine_transform(array, 1 / scale, offset, shape, order=1, mode=mode)
        for array, mode in zip(arrays, ("nearest", "constant"), strict=True)
    )
    return hu, inside


def _overlap(start: np.ndarray, size: Sequence[int], shape: Sequence[int]) -> tuple[Box, Box]:
    """Where a box of `size` from `start` lies inside an array of `shape`: in the array, and in the box."""
    low, high = np.maximum(start, 0), np.minimum(start + size, shape)
    there = [slice(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    own = [slice(int(a), int(b)) for a, b in zip(low - start, high - start, strict=True)]
    return (there[0], there[1], there[2]), (own[0], own[1], own[2])
