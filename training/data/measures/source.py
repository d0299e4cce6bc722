"""What is measured on the source's own grids: spacing, field of view, the nodes' sizes, slivers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from lnq.image.components import label as label_components
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Box, Volume, bounding_box
from lnq.nodes.measure import axes_mm
from training.data.measures.record import Corners, Sliver, SourceMeasures

SLIVER_MM = 6.0  # least short axis of a sliver in its slice: smaller nodes may well lie in one slice alone
SLIVER_TO_THICKNESS = 2.5  # least short axis as a multiple of the slice: a ball as wide lies in two slices or three


def measure_source(image: Volume, label: Volume, grid: Volume) -> SourceMeasures:
    """Measure a CT and its label (above 0: node), each on its own grid. `grid`: the prepared case's, for places."""
    ct, _ = reorient_to_lps(image)
    z, y, x = (round(spacing, 4) for spacing in ct.spacing_mm)
    height, depth, width = (round(size * mm, 1) for size, mm in zip(ct.shape, ct.spacing_mm, strict=True))
    marked, _ = reorient_to_lps(label)
    sizes: list[tuple[float, float]] = []
    slivers: list[Sliver] = []
    for box, node in _nodes(marked.array):
        short, _ = axes_mm(node, marked.spacing_mm)
        sizes.append((round(short, 1), round(float(node.sum()) * marked.voxel_volume_mm3, 1)))
        slivers += _slivers(node, marked.crop(box), grid)
    return SourceMeasures(
        spacing_mm=(z, y, x),
        field_mm=(height, depth, width),
        oriented=image.oriented,
        short_axes_mm=tuple(short for short, _ in sizes),
        volumes_mm3=tuple(volume for _, volume in sizes),
        slivers=tuple(slivers),
    )


def _nodes(label: np.ndarray) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield each 26-connected component of each value above 0: its box, and which of the box's voxels it holds."""
    if not (label > 0).any():
        return
    around = bounding_box(label > 0)
    part = label[around] if label.dtype.kind in "iu" else label[around].astype(np.int32)
    for value, outer in enumerate(ndimage.find_objects(part), start=1):
        if outer is None:  # no voxel has this value
            continue
        numbered, _ = label_components(part[outer] == value)
        for number, inner in enumerate(ndimage.find_objects(numbered), start=1):
            starts = [a.start + b.start + c.start for a, b, c in zip(around, outer, inner, strict=True)]
            z, y, x = (slice(s, s + c.stop - c.start) for s, c in zip(starts, inner, strict=True))
            yield (z, y, x), numbered[inner] == number


def _slivers(node: np.ndarray, place: Volume, grid: Volume) -> Iterator[Sliver]:
    """Yield the node if it is one voxel thick along an axis, and wide across it."""
    for axis in range(3):
        if node.shape[axis] > 1:
            continue
        thickness, *across = (place.spacing_mm[a] for a in (axis, *(a for a in range(3) if a != axis)))
        short, long = axes_mm(np.moveaxis(node, axis, 0), (thickness, *across))
        if short >= max(SLIVER_MM, SLIVER_TO_THICKNESS * thickness):
            yield Sliver(_on_grid(place, grid), round(thickness, 2), round(short, 1), round(long, 1))
            return


def _on_grid(place: Volume, grid: Volume) -> Corners:
    """The box of the grid's voxels that holds a part of a label, of at least one voxel within the grid."""
    to_grid = np.linalg.inv(grid.affine) @ place.affine
    ends = np.array(np.meshgrid(*([0, size - 1] for size in place.shape), indexing="ij")).reshape(3, -1)
    index = to_grid[:3, :3] @ ends + to_grid[:3, 3:]
    low = np.clip(np.floor(index.min(axis=1) + 0.5), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.floor(index.max(axis=1) + 0.5), low, np.array(grid.shape) - 1).astype(int) + 1
    return _triple(low), _triple(high)


def _triple(values: Sequence[int] | np.ndarray) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in values)
    return z, y, x
