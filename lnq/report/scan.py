"""Prepare a CT for a page's viewer: a part of it in grey levels, coarse enough to fit into the page, and its nodes."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from lnq.image.resample import reorient_to_lps, resample_image, resample_label_to
from lnq.image.volume import Box, Volume
from lnq.results.preview import WINDOW_HU, marked_box

HU_PER_LEVEL = 2.0  # finer than a CT's noise, and a fifth smaller than with 256 levels in the window

_COARSENED_MM = (2.0, 1.0, 1.0)  # ratio (z, y, x) of a coarsened CT's spacing, unless the CT's own is coarser
_UINT8, _INT16 = 2, 4  # NIfTI-1 data types
_SCANNER, _MM = 1, 2  # NIfTI-1 codes for scanner coordinates and for mm


@dataclass(frozen=True, eq=False)
class Scan:
    """A part of a CT and its nodes on one grid in NIfTI's RAS axes: z to Superior, y to Anterior, x to Right."""

    levels: Volume  # uint8 in steps of HU_PER_LEVEL; 0 is the lower end of the window
    labels: Volume  # int16: each node's number, 0 elsewhere
    ct_spacing_mm: tuple[float, float, float]  # of the CT it was made from

    @property
    def is_coarser(self) -> bool:
        return not np.allclose(self.levels.spacing_mm, self.ct_spacing_mm, rtol=1e-3)

    def facts(self) -> dict[str, Any]:
        """What the viewer must know of the grid and its grey levels, as plain data."""
        return {
            "shape": self.levels.shape,
            "spacing_mm": self.levels.spacing_mm,
            "affine": self.levels.affine[:3].round(4).tolist(),
            "window_hu": WINDOW_HU,
            "hu_first": WINDOW_HU[0],
            "hu_per_level": HU_PER_LEVEL,
        }

    def marks(self) -> list[dict[str, Any]]:
        """Each node's number, its box and a voxel of it, near the middle of its largest axial slice.

        The box is given by its first and last voxel. All voxels are indices (z, y, x).
        """
        array = self.labels.array
        found = enumerate(ndimage.find_objects(array), start=1)
        return [_mark(number, array[box] == number, box) for number, box in found if box is not None]

    def packed_levels(self) -> bytes:
        """The CT in HU as a compressed NIfTI-1 file. Values are clamped to the window."""
        return gzip.compress(nifti(self.levels, HU_PER_LEVEL, WINDOW_HU[0]), 6, mtime=0)

    def packed_labels(self) -> bytes:
        """The nodes as a compressed NIfTI-1 file."""
        return gzip.compress(nifti(self.labels), 6, mtime=0)


def make_scan(volume: Volume, labels: Volume, box: Box | None, most_voxels: int) -> Scan:
    """Cut a CT in HU and its nodes' numbers (integers, on the same grid) to `box`.

    `box` is in LPS axes. By default it lies around the nodes, or it is the whole CT where there are none. A part of
    more than `most_voxels` becomes coarser, first along z. A node too small for that keeps one voxel. Raises
    ValueError where the shapes differ.
    """
    if labels.shape != volume.shape:
        raise ValueError(f"The labels' shape {labels.shape} is not the CT's {volume.shape}")
    image, numbers = reorient_to_lps(volume)[0], reorient_to_lps(labels)[0]
    if box is None:
        box = marked_box(numbers.array > 0, image)
    image, numbers = image.crop(box), numbers.crop(box)
    spacing_mm = coarsened_mm(image, most_voxels)
    coarse = image if spacing_mm == image.spacing_mm else resample_image(image, spacing_mm)
    levels = coarse.with_array(_grey_levels(coarse.array))
    return Scan(_to_ras(levels), _to_ras(_labels_on(numbers, coarse)), image.spacing_mm)


def coarsened_mm(image: Volume, most_voxels: int) -> tuple[float, float, float]:
    """The finest spacing (z, y, x) with at most `most_voxels`; the image's own where it has no more."""
    own = np.array(image.spacing_mm)
    extent = own * image.shape
    factor, spacing = 0.1, own
    while np.prod(np.maximum(1, np.round(extent / spacing))) > most_voxels:
        spacing = np.maximum(own, factor * np.array(_COARSENED_MM))
        factor *= 1.02
    z, y, x = spacing
    return float(z), float(y), float(x)


def nifti(volume: Volume, slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """A NIfTI-1 file of a uint8 or int16 volume in RAS axes: 352 bytes of header, then the voxels.

    The file's values are `slope` times the voxels plus `intercept`. Raises KeyError for another dtype.
    """
    code = {np.dtype(np.uint8): _UINT8, np.dtype(np.int16): _INT16}[volume.array.dtype]
    array = volume.array.astype(volume.array.dtype.newbyteorder("<"), copy=False)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    rows = (lps_to_ras @ volume.affine[:3])[:, [2, 1, 0, 3]]  # columns z, y, x -> x, y, z
    header = struct.pack(
        "<i36x8h3f4h8f3fh2B4f2i80x24x2h6f12f16x4s4x",
        *(348, 3, *array.shape[::-1], 1, 1, 1, 1),
        *(0, 0, 0, 0, code, 8 * array.itemsize, 0),
        *(1, *volume.spacing_mm[::-1], 0, 0, 0, 0),
        *(352, slope, intercept, 0, 0, _MM, 0, 0, 0, 0, 0, 0),
        *(0, _SCANNER, *(0,) * 6, *rows.ravel()),
        b"n+1",
    )
    return header + array.tobytes()


def _mark(number: int, node: np.ndarray, box: Box) -> dict[str, Any]:
    z = int(node.sum(axis=(1, 2)).argmax())
    y, x = _middle(node[z])
    start = [s.start for s in box]
    voxel = [int(first + index) for first, index in zip(start, (z, y, x), strict=True)]
    return {"number": number, "voxel": voxel, "first": start, "last": [s.stop - 1 for s in box]}


def _grey_levels(hu: np.ndarray) -> np.ndarray:
    low, high = WINDOW_HU
    return np.round((np.clip(hu, low, high) - low) / HU_PER_LEVEL).astype(np.uint8)


def _labels_on(numbers: Volume, grid: Volume) -> Volume:
    """Node numbers on a coarser grid of the same extent. A voxel is a node's where the node covers at least half of it.

    A node that covers half of no voxel gets the voxel around its middle.
    """
    if numbers.shape == grid.shape:
        return grid.with_array(numbers.array.astype(np.int16))
    ratio = np.array(numbers.spacing_mm) / grid.spacing_mm
    labels = np.zeros(grid.shape, np.int16)
    for number, box in enumerate(ndimage.find_objects(numbers.array), start=1):
        if box is None:
            continue
        node = numbers.crop(box)
        node = node.with_array(node.array == number)
        first = [int(s.start * r) for s, r in zip(box, ratio, strict=True)]
        last = [int(np.ceil(s.stop * r)) for s, r in zip(box, ratio, strict=True)]
        z, y, x = (slice(a, b) for a, b in zip(first, last, strict=True))
        covered = resample_label_to(node, grid.crop((z, y, x))).array > 0
        labels[z, y, x][covered] = number
        if not covered.any():
            middle = ([s.start for s in box] + _middle(node.array) + 0.5) * ratio
            labels[tuple(np.minimum(middle, np.array(grid.shape) - 1).astype(int))] = number
    return grid.with_array(labels)


def _middle(node: np.ndarray) -> np.ndarray:
    """Index of the node's voxel (or pixel) nearest to its centroid."""
    inside = np.argwhere(node)
    return inside[((inside - inside.mean(axis=0)) ** 2).sum(axis=1).argmin()]


def _to_ras(volume_lps: Volume) -> Volume:
    """Flip a volume in LPS axes to RAS axes: the axes z, y, x then point to S, A, R instead of S, P, L."""
    _, y, x = (n - 1 for n in volume_lps.shape)
    affine = volume_lps.affine.copy()
    affine[:3, 3] += affine[:3, 1] * y + affine[:3, 2] * x
    affine[:3, 1:3] *= -1
    return Volume(np.ascontiguousarray(volume_lps.array[:, ::-1, ::-1]), affine)
