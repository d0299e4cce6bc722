"""The geometry of a stack of CT slices, and the upright grid of voxels that they are put on.

The slices of a tilted gantry are sheared along the stack, row by row, so that the grid is upright. Its planes meet the
slices in the middle row. Single missing slices are filled in between their neighbours.
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
_EXACT_MM = 1e-3  # slices this near to their places need no fit
_ROUNDED_MM = 0.06  # slices may lie this far beside their place, as headers round positions to 0.1 mm
SAME_PLACE_MM = 0.01  # slices nearer than this lie at one position
_SIDEWAYS_MM = 0.1  # a stack that leans by less than this from end to end counts as upright
_STRAY_MM = 1.0  # slices of a tilted gantry lie this near to a line
_MOST_TILT = 30.0  # degrees; scanners reach 30
_MOST_MISSING = 2  # slices in a row that are filled in
_MOST_GAP_MM = 10.0  # gap that is filled in
_MOST_FILLED = 0.1  # fraction of the slices that may be missing
_BEYOND_HU = -100.0  # where a tilted scan does not reach: as of fat, which closes the lungs


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
    """Sorted slices, no two at one position, and the upright grid [Z, Y, X] that they are put on."""

    slices: tuple[Slice, ...]
    planes: np.ndarray  # [n], index of each slice among evenly spaced planes: some may be missing
    lean: float  # how many planes a slice drops from row to row, as the gantry was tilted
    shape: tuple[int, int, int]  # of the grid
    affine: np.ndarray  # [4, 4], of the grid
    warnings: tuple[str, ...]  # sentences for the user

    @property
    def is_plain(self) -> bool:
        """Whether the slices are the grid's planes as they are."""
        return not self.lean and self.shape[0] == len(self.slices)

    def upright(self, hu: np.ndarray) -> np.ndarray:
        """The grid's HU, int16, from those of the slices, [n, rows, columns]."""
        if self.is_plain:
            return hu
        filled = _fill(hu, self.planes)
        if not self.lean:
            return filled
        grid = np.empty(self.shape, np.int16)
        size = (self.shape[0], self.shape[2])
        for row, first in enumerate(self._first_planes()):
            line = filled[:, row].astype(np.float32)
            line = ndimage.affine_transform(
                line, np.ones(2), (first, 0), size, cval=_BEYOND_HU
            )  # cubic, along the stack
            grid[:, row] = np.rint(np.clip(line, hu.min(), hu.max()))
        return grid

    def on_slices(self, labels: Volume) -> Volume:
        """Labels on the grid, put back onto the slices: [n, rows, columns].

        The affine is that of the slices themselves, which may lean.
        """
        if self.is_plain:
            return labels
        planes = np.rint(self.planes[:, None] - self._first_planes()[None]).astype(int)  # [n, rows]
        back = labels.array[np.clip(planes, 0, self.shape[0] - 1), np.arange(self.shape[1])[None]]
        first, last = self.slices[0], self.slices[-1]
        affine = np.eye(4)
        affine[:3, 0] = (last.position - first.position) / (len(self.slices) - 1)
        affine[:3, 1], affine[:3, 2] = first.column * first.pixel_mm[0], first.row * first.pixel_mm[1]
        affine[:3, 3] = first.position
        return Volume(back, affine)

    def _first_planes(self) -> np.ndarray:
        """[rows], the plane, as a fraction, that each row of the grid's lowest plane comes from."""
        beyond = (self.shape[0] - self.planes[-1] - 1) // 2
        first: np.ndarray = self.lean * (np.arange(self.shape[1]) - (self.shape[1] - 1) / 2) - beyond
        return first


def _fill(hu: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Slices [n, Y, X] on their planes, with those that are missing filled in linearly between their neighbours."""
    filled = np.empty((int(planes[-1]) + 1, *hu.shape[1:]), np.int16)
    filled[planes] = hu
    for plane in sorted(set(range(len(filled))) - set(planes.tolist())):
        before, after = planes[planes < plane].max(), planes[planes > plane].min()
        share = (plane - before) / (after - before)
        filled[plane] = np.rint((1 - share) * filled[before] + share * filled[after].astype(np.float32))
    return filled


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
    planes, distance, start, warnings = _planes(heights)
    origin, step, down = first.position + start * first.normal, first.normal * distance, first.column
    lean, beyond = 0.0, 0
    aside = positions - first.position - np.outer(heights, first.normal)
    if np.ptp(aside, axis=0).max() > _SIDEWAYS_MM:
        warnings.append(_tilt_warning(first, aside, heights))
        step = (positions[-1] - positions[0]) / planes[-1]
        along = step / np.linalg.norm(step)
        down = first.column - (first.column @ along) * along  # the slices' rows, seen from the stack's end
        lean = -float(first.column @ along) * first.pixel_mm[0] / float(np.linalg.norm(step))
        middle = (first.size[0] - 1) / 2
        beyond = int(np.ceil(abs(lean) * middle))
        origin = first.position - (lean * middle + beyond) * step
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1], affine[:3, 2] = down * first.pixel_mm[0], first.row * first.pixel_mm[1]
    affine[:3, 3] = origin
    shape = (int(planes[-1]) + 1 + 2 * beyond, *first.size)
    return Stack(tuple(slices), planes, lean, shape, affine, tuple(warnings))


def _tilt_warning(first: Slice, aside_mm: np.ndarray, heights_mm: np.ndarray) -> str:
    """What to tell of slices that do not lie above each other. Raises ImageError where no gantry does that."""
    straight = np.outer(heights_mm / heights_mm[-1], aside_mm[-1])
    if np.abs(aside_mm - straight).max() > _STRAY_MM or abs(float(aside_mm[-1] @ first.row)) > _STRAY_MM:
        raise ImageError("its slices are shifted against each other")
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(aside_mm[-1]), heights_mm[-1])))
    if tilt > _MOST_TILT:
        raise ImageError("its slices lean by {tilt:.0f} degrees, more than any gantry does", tilt=tilt)
    return f"The gantry was tilted by {tilt:.1f} degrees: the slices were sheared onto an upright grid."


def _planes(heights: np.ndarray) -> tuple[np.ndarray, float, float, list[str]]:
    """The plane of each slice by its height (mm, sorted), the planes' distance, the height of the first plane, and what
    to tell of missing slices.

    Where headers round the heights, the planes are those that fit best.
    """
    gaps = np.diff(heights)
    usual = float(np.percentile(gaps, 50, method="lower"))
    steps = np.maximum(1, np.rint(gaps / usual)).astype(int)
    planes = np.concatenate([[0], np.cumsum(steps)])
    missing = int((steps - 1).sum())
    can_be_filled = steps.max() <= _MOST_MISSING + 1 and gaps.max() <= _MOST_GAP_MM
    if missing and not (can_be_filled and missing <= _MOST_FILLED * len(heights)):
        raise ImageError(
            "slices are missing: the gaps are {usual:.2f} and {most:.2f} mm", usual=usual, most=float(gaps.max())
        )
    distance, start = float(heights[-1] / planes[-1]), 0.0
    if np.abs(heights - planes * distance).max() > _EXACT_MM:
        distance, start = (float(value) for value in np.polyfit(planes, heights, 1))
    if np.abs(heights - start - planes * distance).max() > max(_GAP_TOLERANCE * distance, _ROUNDED_MM):
        uneven = "its slices are unevenly spaced, {least:.2f} to {most:.2f} mm apart"
        raise ImageError(uneven, least=float(gaps.min()), most=float(gaps.max()))
    if not missing:
        return planes, distance, start, []
    after = ", ".join(f"{number}" for number in np.flatnonzero(steps > 1) + 1)
    lost = "1 slice is missing" if missing == 1 else f"{missing} slices are missing"
    return planes, distance, start, [f"{lost}, after slice {after} from below: filled in between the neighbours."]
