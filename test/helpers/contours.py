"""The pixels within a contour of an RT Structure Set, by matplotlib's polygons."""

from __future__ import annotations

import numpy as np
import pydicom
from matplotlib.path import Path as Polygon


def filled(contour: pydicom.Dataset, header: pydicom.Dataset, shape: tuple[int, int]) -> np.ndarray:
    """Mask [rows, columns] of the pixels of a slice whose centres lie in a contour, which must lie in its plane."""
    assert contour.ContourGeometricType == "CLOSED_PLANAR"
    points = np.array(contour.ContourData, float).reshape(contour.NumberOfContourPoints, 3)
    x, y = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    offset = points - np.array(header.ImagePositionPatient, float)
    assert np.abs(offset @ np.cross(x, y)).max() < 1e-3
    between_rows, between_columns = header.PixelSpacing
    polygon = np.column_stack([offset @ x / float(between_columns), offset @ y / float(between_rows)])
    rows, columns = np.indices(shape)
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    return Polygon(np.vstack([polygon, polygon[:1]])).contains_points(centres).reshape(shape)
