"""Pictures of one node in both CTs, side by side and to one scale."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from lnq.followup.change import Change
from lnq.followup.register import Alignment
from lnq.followup.time_point import TimePoint
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.results.preview import FOUND_COLOUR, WINDOW_HU

_LEAST_MM, _MARGIN_MM = 60.0, 20.0  # least side of the shown square, and what it shows around the nodes
_PANEL_INCHES, _DPI = 2.0, 100
_OUTSIDE_HU = -1024.0


@dataclass(frozen=True, eq=False)
class View:
    """A CT in LPS axes, and its nodes."""

    hu: Volume
    labels: np.ndarray
    title: str

    @cached_property
    def boxes(self) -> list[tuple[slice, slice, slice] | None]:
        """The box around each node, by its number less one."""
        return ndimage.find_objects(self.labels)

    @classmethod
    def of(cls, point: TimePoint) -> View:
        """The view of a time point."""
        return cls(reorient_to_lps(point.ct)[0], reorient_to_lps(point.labels)[0].array, point.title)

    def nodes(self, numbers: Sequence[int]) -> np.ndarray | None:
        """Where these nodes are, as indices [N, 3]; None without numbers."""
        found = []
        for number in numbers:
            box = self.boxes[number - 1]
            assert box is not None  # the labels hold every node
            found.append(np.argwhere(self.labels[box] == number) + [part.start for part in box])
        return np.concatenate(found) if found else None

    def to_mm(self, index: np.ndarray) -> np.ndarray:
        """(L, P, S) in mm of an index."""
        return (self.hu.affine @ [*index, 1.0])[:3]

    def to_index(self, point_mm: np.ndarray) -> np.ndarray:
        """The index of a point (L, P, S) in mm."""
        return (np.linalg.inv(self.hu.affine) @ [*point_mm, 1.0])[:3]


def picture(earlier: View, later: View, change: Change, alignment: Alignment) -> bytes:
    """A JPEG of a node's largest axial slice in each CT, outlined; where it is in one alone, the other's same place."""
    from matplotlib.figure import Figure

    views = (earlier, later)
    found = [view.nodes(numbers) for view, numbers in zip(views, (change.earlier, change.later), strict=True)]
    centres = [None if index is None else _middle(index) for index in found]
    if centres[0] is None and centres[1] is not None:
        back = np.linalg.inv(alignment.matrix) @ [*later.to_mm(centres[1]), 1.0]
        centres[0] = earlier.to_index(back[:3])
    elif centres[1] is None and centres[0] is not None:
        centres[1] = later.to_index(alignment.apply(earlier.to_mm(centres[0])[None])[0])
    side_mm = max(_side_mm(index, view) for index, view in zip(found, views, strict=True))
    figure = Figure(figsize=(2 * _PANEL_INCHES, _PANEL_INCHES), facecolor="black")
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0)
    numbers = (change.earlier, change.later)
    for axes, view, centre, own in zip(panels, views, centres, numbers, strict=True):
        assert centre is not None  # of at least one CT, and so of both
        _draw(axes, view, centre, own, side_mm)
    jpeg = io.BytesIO()
    figure.savefig(jpeg, dpi=_DPI, format="jpeg", pil_kwargs={"quality": 85})
    return jpeg.getvalue()


def _middle(index: np.ndarray) -> np.ndarray:
    """The middle of the slice that holds most of the voxels."""
    z = np.bincount(index[:, 0]).argmax()
    return index[index[:, 0] == z].mean(axis=0)


def _side_mm(index: np.ndarray | None, view: View) -> float:
    if index is None:
        return _LEAST_MM
    extent = np.ptp(index[:, 1:], axis=0) * view.hu.spacing_mm[1:]
    return max(_LEAST_MM, float(extent.max()) + 2 * _MARGIN_MM)


def _draw(axes: Any, view: View, centre: np.ndarray, numbers: Sequence[int], side_mm: float) -> None:
    axes.set_axis_off()
    z = round(float(centre[0]))
    _, dy, dx = view.hu.spacing_mm
    half = (int(side_mm / 2 / dy), int(side_mm / 2 / dx))
    if 0 <= z < view.hu.shape[0]:
        place = (round(float(centre[1])), round(float(centre[2])))
        pixels = _square(view.hu.array[z], place, half, _OUTSIDE_HU)
        labels = _square(view.labels[z], place, half, 0)
        low, high = WINDOW_HU
        axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, aspect=dy / dx, interpolation="bilinear")
        own = np.isin(labels, numbers) & (labels > 0)
        for mask, colour, width in (((labels > 0) & ~own, "#BBBBBB", 0.7), (own, FOUND_COLOUR, 1.4)):
            if mask.any():
                axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width)
    axes.text(0.02, 0.97, view.title, color="white", fontsize=7, va="top", transform=axes.transAxes, clip_on=True)


def _square(plane: np.ndarray, place: tuple[int, int], half: tuple[int, int], outside: float) -> np.ndarray:
    """The part of a plane [Y, X] around a place; beyond the plane it is `outside`."""
    part = np.full((2 * half[0] + 1, 2 * half[1] + 1), outside, plane.dtype)
    rows, columns = (np.arange(c - h, c + h + 1) for c, h in zip(place, half, strict=True))
    seen = [(index >= 0) & (index < size) for index, size in zip((rows, columns), plane.shape, strict=True)]
    part[np.ix_(*seen)] = plane[np.ix_(rows[seen[0]], columns[seen[1]])]
    return part
