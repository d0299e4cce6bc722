"""Reorient and resample volumes. Each step keeps what is needed to undo it.

Resampling between grids with parallel axes is separable, with one small weight matrix per axis. It is linear where the
target is as fine as the source or finer. Where the target is coarser, it takes the mean over the target voxel's extent.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.sparse import csr_array

from lnq.image.volume import Box, Volume, bounding_box, bounds, make_affine

_ALL = (slice(None), slice(None), slice(None))
_PARALLEL = 1e-4  # cosine up to which two axes count as perpendicular
_ROUNDING = 1e-5  # by how much a weighted mean may exceed its highest value, relatively


@dataclass(frozen=True)
class Orientation:
    """How an array was brought to LPS: `axes[i]` is the source axis of LPS axis i, `flips[i]` reverses it."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Original axes -> z to Superior, y to Posterior, x to Left; a view."""
        return array.transpose(self.axes)[self._steps]

    def undo(self, array: np.ndarray) -> np.ndarray:
        """LPS axes -> original axes; a view."""
        return array[self._steps].transpose(np.argsort(self.axes))


def reorient_to_lps(volume: Volume) -> tuple[Volume, Orientation]:
    """Permute and flip to the nearest LPS axes. An oblique volume stays oblique: nothing is interpolated."""
    direction = volume.direction[::-1]  # rows S, P, L: what z, y, x should point to
    axes = max(permutations(range(3)), key=lambda p: sum(abs(direction[i, a]) for i, a in enumerate(p)))
    flips = tuple(bool(direction[i, a] < 0) for i, a in enumerate(axes))
    orientation = Orientation(axes, flips)  # type: ignore[arg-type]
    affine = volume.affine[:, [*axes, 3]]  # a copy
    for i, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, i] * (volume.shape[axes[i]] - 1)
            affine[:3, i] *= -1
    return Volume(orientation.apply(volume.array), affine), orientation


def resample_image(volume: Volume, spacing_mm: tuple[float, float, float], least: float | None = None) -> Volume:
    """The volume at another spacing (z, y, x), float32. The outer corner stays, the extent changes by half a voxel at
    most. Values below `least` count as that."""
    shape, affine = resampled_grid(volume, spacing_mm)
    scale = np.array(spacing_mm, dtype=np.float64) / volume.spacing_mm
    offset = _first_centre(scale)
    weights = [axis_weights(shape[i], volume.shape[i], scale[i], offset[i]) for i in range(3)]
    return Volume(_separable(volume.array, weights, least), affine)


def resampled_grid(volume: Volume, spacing_mm: tuple[float, float, float]) -> tuple[tuple[int, int, int], np.ndarray]:
    """The shape and the affine of `resample_image` at a spacing (z, y, x)."""
    old, new = np.array(volume.spacing_mm), np.array(spacing_mm, dtype=np.float64)
    z, y, x = np.maximum(1, np.round(np.array(volume.shape) * old / new)).astype(int).tolist()
    origin = volume.affine[:3, 3] + volume.affine[:3, :3] @ _first_centre(new / old)
    return (z, y, x), make_affine(spacing_mm, origin, volume.direction)


def _first_centre(scale: np.ndarray) -> np.ndarray:
    """Where the first new voxel's centre lies, in old voxels. `scale`: new spacing as a multiple of the old one."""
    first: np.ndarray = (scale - 1) / 2
    return first


def resample_label_to(label: Volume, grid: Volume) -> Volume:
    """Where the label (any voxel > 0) covers at least half: uint8 on `grid`, by physical position.

    The label's indicator (0 or 1) is interpolated linearly and cut at 0.5. The two grids may have any geometry; beyond
    the label's grid there is background.
    """
    indicator = label.with_array(label.array > 0)
    covered = _resample_to(indicator, grid, outside_zero=True)
    return grid.with_array((covered >= 0.5).astype(np.uint8))


def resample_array_to(array: np.ndarray, source: Volume, target: Volume, box: Box = _ALL) -> np.ndarray:
    """A float array on the grid of `source`, resampled to the `box` of `target`, float32 of the box's shape.

    Beyond the source's edge the edge's value continues. A voxel's value does not depend on the box.
    """
    return _resample_to(source.with_array(array), target, outside_zero=False, box=box)


def box_reaching(array: np.ndarray, least: float, source: Volume, target: Volume, box: Box = _ALL) -> Box:
    """The part of the target's `box` that holds every voxel at which `array`, resampled to it, can reach `least`.

    Every value of `resample_array_to` is a weighted mean, so it reaches `least` only where a value that it is made of
    does. Between grids that are rotated against each other it is the whole box.
    """
    steps = _weights_to(source, target, outside_zero=False)
    z, y, x = (slice(*part.indices(size)[:2]) for part, size in zip(box, target.shape, strict=True))
    if steps is None or least <= 0:
        return z, y, x
    weights, used = steps
    high = bounding_box(array >= least * (1 - _ROUNDING))
    found = [z, y, x]
    for along, columns, axis in zip(weights, high, used, strict=True):
        own = found[axis]
        rows = bounds(along[own, columns], 0)
        found[axis] = slice(own.start + rows.start, own.start + rows.stop)
    return found[0], found[1], found[2]


def axis_weights(n_out: int, n_in: int, scale: float, offset: float, outside_zero: bool = False) -> np.ndarray:
    """Weights [n_out, n_in] along one axis, float32: output voxel i has its centre at `offset + scale * i`.

    `scale` is the output voxel's size in input voxels. Up to 1 the weights interpolate linearly; above 1 they are the
    overlap with each input voxel. Beyond the input's edge the edge's value counts, or 0 with `outside_zero`.
    """
    centre = offset + scale * np.arange(n_out)[:, None]
    index = np.arange(n_in)[None, :]
    if scale <= 1:
        weights = np.clip(1 - np.abs(np.clip(centre, 0, n_in - 1) - index), 0, 1)
        if outside_zero:
            weights *= (centre >= -0.5) & (centre <= n_in - 0.5)
    else:
        low = np.maximum(centre - scale / 2, index - 0.5)
        high = np.minimum(centre + scale / 2, index + 0.5)
        weights = np.clip(high - low, 0, None) / scale
        total = weights.sum(axis=1)
        if not outside_zero:
            nearest = np.clip(np.round(centre[:, 0]), 0, n_in - 1).astype(int)
            weights[total == 0, nearest[total == 0]] = 1
            weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


def _separable(array: np.ndarray, weights: list[np.ndarray], least: float | None = None) -> np.ndarray:
    """Apply one weight matrix per axis, slice by slice: this avoids a full-size float copy of the input.

    Values below `least` count as that.
    """
    kept = [w.shape[0] == w.shape[1] and np.array_equal(w, np.eye(len(w))) for w in weights]
    along_z, along_y, along_x = (csr_array(w) for w in weights)  # sparse: rows have few entries
    planes = np.empty((array.shape[0], along_y.shape[0], along_x.shape[0]), np.float32)
    for z in range(len(planes)):
        plane = array[z].astype(np.float32)
        if least is not None:
            np.maximum(plane, least, out=plane)
        if not kept[1]:
            plane = along_y @ plane
        planes[z] = plane if kept[2] else (along_x @ np.ascontiguousarray(plane.T)).T
    if kept[0]:
        return planes
    return (along_z @ planes.reshape(len(planes), -1)).reshape(-1, *planes.shape[1:])


def _resample_to(volume: Volume, grid: Volume, outside_zero: bool, box: Box = _ALL) -> np.ndarray:
    steps = _weights_to(volume, grid, outside_zero)
    if steps is None:
        return _oblique(volume, grid.crop(box), outside_zero)
    weights, used = steps
    weights = [along[box[axis]] for along, axis in zip(weights, used, strict=True)]
    if not all(len(along) for along in weights):
        return np.zeros(grid.crop(box).shape, np.float32)
    read = [bounds(along, 1) for along in weights]
    parts = [along[:, columns] for along, columns in zip(weights, read, strict=True)]
    return np.ascontiguousarray(_separable(volume.array[tuple(read)], parts).transpose(np.argsort(used)))


def _weights_to(source: Volume, target: Volume, outside_zero: bool) -> tuple[list[np.ndarray], list[int]] | None:
    """The weights [n_out, n_in] along each axis of the source, and the target's axis that runs along it.

    None where the grids are rotated against each other.
    """
    to_source = np.linalg.inv(source.affine) @ target.affine  # target index -> source index
    matrix, offset = to_source[:3, :3], to_source[:3, 3]
    used = [int(np.argmax(np.abs(matrix[i]))) for i in range(3)]  # the target axis that runs along source axis i
    rest = matrix.copy()
    rest[range(3), used] = 0
    if sorted(used) != [0, 1, 2] or np.abs(rest).max() > _PARALLEL:
        return None
    weights = []
    for i, axis in enumerate(used):
        scale, start, n_out = matrix[i, axis], offset[i], target.shape[axis]
        if scale < 0:  # The target axis runs backwards: the weights are computed forwards, then reversed.
            start += scale * (n_out - 1)
        forward = axis_weights(n_out, source.shape[i], abs(scale), start, outside_zero)
        weights.append(forward[::-1] if scale < 0 else forward)
    return weights, used


def _oblique(volume: Volume, grid: Volume, outside_zero: bool) -> np.ndarray:
    """Linear interpolation between grids that are rotated against each other."""
    from scipy import ndimage

    to_source = np.linalg.inv(volume.affine) @ grid.affine  # target index -> source index
    mode = "grid-constant" if outside_zero else "nearest"
    array = volume.array.astype(np.float32)
    matrix, offset = to_source[:3, :3], to_source[:3, 3]
    return ndimage.affine_transform(array, matrix, offset, grid.shape, np.float32, order=1, mode=mode)
