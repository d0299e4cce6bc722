"""The geometry of a stack of CT slices, and the upright grid of voxels that they are put on.

Slices of a tilted gantry are moved within their planes until they lie above each other. Single missing slices are
filled in between their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.dicom.header import SliceFile
from lnq.errors import ImageError
from lnq.image.volume import Volume

_GAP_TOLERANCE = 0.1  # slices may lie this fraction of their distance beside their place, as scanners round positions
SAME_PLACE_MM = 0.01  # slices nearer than this lie at one position
_SIDEWAYS_MM = 0.1  # a stack that leans by less than this from end to end counts as upright
_STRAY_MM = 1.0  # slices of a tilted gantry lie this near to a line
_MOST_TILT = 30.0  # degrees; scanners reach 30
_MOST_MISSING = 2  # slices in a row that are filled in
_MOST_GAP_MM = 10.0  # gap that is filled in
_MOST_FILLED = 0.1  # fraction of the slices that may be missing
_AIR_HU = -1024


@dataclass(frozen=True, eq=False)
class Slice:
    """The geometry of one CT slice: position (mm) and direction cosines in patient coordinates (L, P, S)."""

    file: SliceFile
    position: np.ndarray  # [3], centre of the first voxel
    row: np.ndarray  # [3], unit vector along which the column index grows
    column: np.ndarray  # [3], unit vector along which the row index grows
    pixel_mm: tuple[float, float]  # distance between rows, between columns
    size: tuple[int, int]  # rows, columns

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row, self.column)


@dataclass(frozen=True, eq=False)
class Stack:
    """Sorted slices, no two at one position, and the grid [Z, Y, X] that they are put on."""

    slices: tuple[Slice, ...]
    planes: np.ndarray  # [n], index of each slice's plane in the grid
    moves: np.ndarray  # [n, 2], how far each slice is moved on the grid, in rows and columns; all >= 0
    shape: tuple[int, int, int]
    affine: np.ndarray  # [4, 4], of the grid
    warnings: tuple[str, ...]  # sentences for the user

    @property
    def leans(self) -> bool:
        """Whether slices are moved sideways."""
        return bool(self.moves.any())

    @property
    def is_plain(self) -> bool:
        """Whether the slices are the grid's planes as they are."""
        return not self.leans and self.shape[0] == len(self.slices)

    def upright(self, hu: np.ndarray) -> np.ndarray:
        """The grid's HU, int16, from those of the slices, [n, rows, columns]."""
        if self.is_plain:
            return hu
        grid = np.full(self.shape, _AIR_HU, np.int16)
        for plane, move, image in zip(self.planes, self.moves, hu, strict=True):
            grid[plane] = _moved(image, move, self.shape[1:], _AIR_HU, order=1) if self.leans else image
        for plane in sorted(set(range(self.shape[0])) - set(self.planes.tolist())):
            before, after = self.planes[self.planes < plane].max(), self.planes[self.planes > plane].min()
            share = (plane - before) / (after - before)
            grid[plane] = np.rint((1 - share) * grid[before] + share * grid[after].astype(np.float32))
        return grid

    def on_slices(self, labels: Volume) -> Volume:
        """Labels on the grid, put back onto the slices: [n, rows, columns].

        The affine is that of the slices themselves, which may lean.
        """
        if self.is_plain:
            return labels
        first, last = self.slices[0], self.slices[-1]
        back = [
            _moved(labels.array[p], -m, first.size, 0, order=0) for p, m in zip(self.planes, self.moves, strict=True)
        ]
        affine = np.eye(4)
        affine[:3, 0] = (last.position - first.position) / (len(self.slices) - 1)
        affine[:3, 1], affine[:3, 2] = first.column * first.pixel_mm[0], first.row * first.pixel_mm[1]
        affine[:3, 3] = first.position
        return Volume(np.stack(back), affine)


def _moved(image: np.ndarray, move: np.ndarray, size: tuple[int, ...], outside: float, order: int) -> np.ndarray:
    """An image [Y, X] moved by so many rows and columns, on a plane of another size."""
    kind = np.float32 if order else image.dtype
    moved: np.ndarray = ndimage.affine_transform(
        image.astype(kind), np.ones(2), -move, output_shape=size, order=order, mode="constant", cval=outside
    )
    return np.rint(moved).astype(image.dtype) if order else moved


def arrange(slices: Sequence[Slice]) -> Stack:
    """The stack of slices that are sorted along their normal and of one size and direction, none twice.

    Raises ImageError where there is one slice only, where slices are missing or unevenly spaced, and where the stack
    leans more than any gantry.
    """
    if len(slices) < 2:
        raise ImageError("it is a single slice: a CT volume is needed")
    first = slices[0]
    positions = np.array([s.position for s in slices])
    heights = (positions - first.position) @ first.normal
    planes, distance, warnings = _planes(heights)
    aside = positions - first.position - np.outer(heights, first.normal)
    moves_mm = aside @ np.stack([first.column, first.row], axis=1)  # along the rows' and the columns' index
    origin, size, moves = first.position, np.array(first.size), np.zeros_like(moves_mm)
    if np.ptp(moves_mm, axis=0).max() > _SIDEWAYS_MM:
        warnings.append(_tilt_warning(moves_mm, heights))
        least_mm = moves_mm.min(axis=0)
        origin = origin + first.column * least_mm[0] + first.row * least_mm[1]
        moves = (moves_mm - least_mm) / first.pixel_mm
        size = size + np.ceil(moves.max(axis=0) - 1e-6).astype(int)
    affine = np.eye(4)
    affine[:3, 0] = first.normal * distance
    affine[:3, 1], affine[:3, 2] = first.column * first.pixel_mm[0], first.row * first.pixel_mm[1]
    affine[:3, 3] = origin
    shape = (int(planes[-1]) + 1, int(size[0]), int(size[1]))
    return Stack(tuple(slices), planes, moves, shape, affine, tuple(warnings))


def _tilt_warning(moves_mm: np.ndarray, heights_mm: np.ndarray) -> str:
    """What to tell of slices that do not lie above each other. Raises ImageError where no gantry does that."""
    straight = np.outer(heights_mm / heights_mm[-1], moves_mm[-1])
    if np.abs(moves_mm - straight).max() > _STRAY_MM:
        raise ImageError("its slices are shifted against each other")
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(moves_mm[-1]), heights_mm[-1])))
    if tilt > _MOST_TILT:
        raise ImageError("its slices lean by {tilt:.0f} degrees, more than any gantry does", tilt=tilt)
    return f"The gantry was tilted by {tilt:.1f} degrees: slices were moved onto an upright grid."


def _planes(heights: np.ndarray) -> tuple[np.ndarray, float, list[str]]:
    """The plane of each slice by its height (mm, sorted), the planes' distance, and what to tell of missing slices."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    steps = np.maximum(1, np.rint(gaps / usual)).astype(int)
    planes = np.concatenate([[0], np.cumsum(steps)])
    distance = float(heights[-1] / planes[-1])
    missing = int((steps - 1).sum())
    if missing and (
        steps.max() - 1 > _MOST_MISSING or gaps.max() > _MOST_GAP_MM or missing > _MOST_FILLED * len(heights)
    ):
        raise ImageError(
            "slices are missing: the gaps are {usual:.2f} and {most:.2f} mm", usual=usual, most=float(gaps.max())
        )
    if np.abs(heights - planes * distance).max() > _GAP_TOLERANCE * distance:
        uneven = "its slices are unevenly spaced, {least:.2f} to {most:.2f} mm apart"
        raise ImageError(uneven, least=float(gaps.min()), most=float(gaps.max()))
    if not missing:
        return planes, distance, []
    after = ", ".join(f"{number}" for number in np.flatnonzero(steps > 1) + 1)
    lost = "1 slice is" if missing == 1 else f"{missing} slices are"
    return planes, distance, [f"{lost} missing, after slice {after} from below: filled in between its neighbours."]
