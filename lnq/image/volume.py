"""An array with its geometry: a CT, a mask, a probability.

Arrays are [Z, Y, X]. Positions are (L, P, S) in mm: DICOM's and ITK's patient axes, which increase towards the
patient's Left, Posterior and Superior.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lnq.image.headers.forms import NiftiForms

Box = tuple[slice, slice, slice]  # z, y, x, of step 1


@dataclass(frozen=True, eq=False)
class Volume:
    """An array [Z, Y, X] and its `affine`, float64 [4, 4]: voxel index (z, y, x, 1) -> centre (L, P, S, 1) in mm.

    `warnings` are sentences for the user about how the image was read. `oriented` says whether left and right are
    known. `forms` is what a NIfTI file says of the geometry. Raises ValueError for another number of dimensions or
    another shape of the affine.
    """

    array: np.ndarray
    affine: np.ndarray
    warnings: tuple[str, ...] = ()
    oriented: bool = True
    forms: NiftiForms | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"A volume's array must be [Z, Y, X], not of shape {self.array.shape}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"A volume's affine must be [4, 4], not of shape {self.affine.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.array.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def voxel_volume_mm3(self) -> float:
        return float(np.prod(self.spacing_mm))

    @property
    def direction(self) -> np.ndarray:
        """[3, 3] with unit columns z, y, x: where in (L, P, S) each array axis points. NaN where the spacing is 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.affine[:3, :3] / np.array(self.spacing_mm)

    def with_array(self, array: np.ndarray) -> "Volume":
        """Another array with the same geometry. Raises ValueError for another shape."""
        if array.shape != self.shape:
            raise ValueError(f"The array's shape {array.shape} does not fit the volume's {self.shape}")
        return Volume(array, self.affine, forms=self.forms)

    def crop(self, box: Box) -> "Volume":
        """The part within `box`, as a view that keeps its position. Raises ValueError for a step other than 1."""
        ranges = [s.indices(n) for s, n in zip(box, self.shape, strict=True)]
        if any(step != 1 for _, _, step in ranges):
            raise ValueError(f"A volume can only be cropped by slices of step 1, not {box}")
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [start for start, _, _ in ranges]
        return Volume(self.array[box], affine)


def bounding_box(mask: np.ndarray, margin: tuple[int, int, int] = (0, 0, 0)) -> Box:
    """The smallest box around the voxels of a mask (bool [Z, Y, X]); empty for an empty mask.

    The box grows by `margin` voxels (z, y, x) on both sides, up to the array's end.
    """
    slices = bounds(mask, 0)
    flat = np.logical_or.reduce(mask[slices], axis=0)  # [Y, X]
    box = (slices, bounds(flat, 0), bounds(flat, 1))
    if slices.start == slices.stop:
        return box
    z, y, x = (
        slice(max(0, part.start - grown), min(size, part.stop + grown))
        for part, size, grown in zip(box, mask.shape, margin, strict=True)
    )
    return z, y, x


def bounds(mask: np.ndarray, axis: int) -> slice:
    """From the first to the last index along an axis at which anything is true or above 0; empty at 0 for nothing."""
    found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def make_affine(
    spacing_mm: Sequence[float],
    origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
    direction: np.ndarray | None = None,
) -> np.ndarray:
    """Affine, float64 [4, 4], of a grid with spacing (z, y, x) and voxel 0 at `origin_mm` (L, P, S).

    `direction`: [3, 3] with unit columns z, y, x, by default along the LPS axes.
    """
    if direction is None:
        direction = np.eye(3)[::-1]  # z -> S, y -> P, x -> L
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction, dtype=np.float64) * np.asarray(spacing_mm, dtype=np.float64)
    affine[:3, 3] = origin_mm
    return affine
