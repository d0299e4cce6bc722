"""Outline a slice's mask by polygons from which the same mask can be restored."""

from __future__ import annotations

from typing import cast

import numpy as np


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed polygons around a mask, bool [rows, columns]. Each is float64 [points, 2], (row, column).

    They run half-way between the centres of a pixel in the mask and its neighbour outside (marching squares, Lorensen
    and Cline 1987). The mask is therefore the pixels whose centres lie within. Each 4-connected piece has one polygon.
    A channel of no width (a keyhole) joins a hole to the outside; it runs along pixels' edges and meets no centre. The
    last point does not repeat the first. An empty mask has no polygon.
    """
    import contourpy  # a part of matplotlib

    padded = np.pad(mask, 1).astype(np.float64)
    filled = contourpy.contour_generator(z=padded, fill_type="OuterOffset").filled(0.5, np.inf)
    pieces, offsets = cast(tuple[list[np.ndarray], list[np.ndarray]], filled)
    polygons = []
    for points, starts in zip(pieces, offsets, strict=True):
        rings = np.split(points[:, ::-1] - 1, starts[1:-1].astype(int))  # padded (x, y) -> (row, column)
        polygons.append(_without_needless_points(_joined(rings[0][:-1], [ring[:-1] for ring in rings[1:]])))
    return polygons


def _joined(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """Join an outer ring and the rings of its holes to one polygon. All are [points, 2].

    Each ring has a point wherever it crosses a line between neighbouring pixel centres.
    """
    starts = [_leftmost_between_rows(hole) for hole in holes]
    for hole, start in sorted(zip(holes, starts, strict=True), key=lambda pair: float(pair[0][pair[1]][1])):
        ring = np.roll(hole, -start, axis=0)
        row, column = ring[0]
        index, hit = _first_to_the_left(outer, row, column)
        channel = np.array([[row, hit]])
        outer = np.concatenate([outer[: index + 1], channel, ring, ring[:1], channel, outer[index + 1 :]])
    return outer


def _leftmost_between_rows(ring: np.ndarray) -> int:
    """Index of the leftmost point half-way between two rows. A line from there to the left meets no pixel's centre."""
    return int(np.argmin(np.where(ring[:, 0] % 1 == 0.5, ring[:, 1], np.inf)))


def _first_to_the_left(polygon: np.ndarray, row: float, column: float) -> tuple[int, float]:
    """The first side of a polygon that a line from (row, column) to the left meets.

    Returns the index of the side's first point, and the column where they meet. A line between two rows meets a polygon
    of marching squares in points, or in sides that run along the columns.
    """
    after = np.roll(polygon, -1, axis=0)
    meets = (polygon[:, 0] == row) | ((polygon[:, 0] - row) * (after[:, 0] - row) < 0)
    columns = np.where(meets & (polygon[:, 1] < column), polygon[:, 1], -np.inf)
    index = int(np.argmax(columns))
    return index, float(columns[index])


def _without_needless_points(polygon: np.ndarray) -> np.ndarray:
    """Drop points that repeat the one before or lie on a straight line. A point where the line turns back stays."""
    polygon = polygon[(polygon != np.roll(polygon, 1, axis=0)).any(axis=1)]
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return polygon[(turn != 0) | ((before * after).sum(axis=1) < 0)]
