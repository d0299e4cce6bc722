"""Small pictures of prepared cases, as JPEG: a slice in grey with the label's outline."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lnq.results.outlines import outlines
from lnq.results.preview import FOUND_COLOUR, TRUTH_COLOUR, WINDOW_HU
from training.data.measures.record import Corners
from training.data.prepared import PreparedCase

if TYPE_CHECKING:
    from PIL.Image import Image

SPOT_PIXELS = (288, 288)  # width and height of a suspicion's picture
CASE_PIXELS = (240, 176)  # of a case's: shown at 150 x 110, larger under the mouse
_VIEW_MM = 90.0  # least side of what a suspicion's picture shows
_MARGIN_MM = 25.0  # around the spot
_QUALITY = 72  # of JPEG; without subsampling, which would blur the outlines' colours
_LINE = 2  # width of the label's outline, in pixels
_TICK = 14  # length of the spot's corners, in pixels


def spot_picture(case: PreparedCase, spot: Corners, moved_mm: Sequence[float] | None = None) -> bytes:
    """An axial slice through the middle of a spot: the label in blue, and in orange the spot's corners.

    With `moved_mm` (z, y, x) the orange outline is the label moved by it. It comes without the corners.
    """
    low, high = np.array(spot)
    spacing = np.array(case.info.spacing_mm)
    z = int(low[0] + high[0] - 1) // 2
    side_mm = max(_VIEW_MM, float(((high - low) * spacing)[1:].max()) + 2 * _MARGIN_MM)
    size = np.round(side_mm / spacing[1:]).astype(int)
    start = np.round((low + high)[1:] / 2 - size / 2).astype(int)
    hu, label = (_slice(case, name, z, start, size) for name in ("image", "label"))
    picture = _grey(hu, SPOT_PIXELS)
    _outline(picture, label > 0, TRUTH_COLOUR)
    if moved_mm is None:
        _corners(picture, (low[1:] - start, high[1:] - start), hu.shape)
    else:
        step = np.round(np.array(moved_mm) / spacing).astype(int)
        moved = _slice(case, "label", z - step[0], start - step[1:], size)
        _outline(picture, moved > 0, FOUND_COLOUR)
    return _jpeg(picture)


def case_picture(case: PreparedCase) -> bytes:
    """The axial slice through the middle of most annotated nodes, with the label's outline; the middle slice where
    there is none."""
    shape, centres = case.info.shape, case.info.node_centres
    z = Counter(centre[0] for centre in centres).most_common(1)[0][0] if centres else shape[0] // 2
    hu, label = (_slice(case, name, z, np.zeros(2, int), np.array(shape[1:])) for name in ("image", "label"))
    picture = _grey(hu, _within(CASE_PIXELS, hu.shape, case.info.spacing_mm[1:]))
    _outline(picture, label > 0, TRUTH_COLOUR)
    return _jpeg(picture)


def chest_picture(case: PreparedCase) -> bytes:
    """A coronal slice through the middle of the chest, for a look at heart, aorta and liver; the patient's left is on
    the right."""
    shape, (z_mm, _, x_mm) = case.info.shape, case.info.spacing_mm
    hu = case.box("image", (0, shape[1] // 2, 0), (shape[0], 1, shape[2]))[::-1, 0]
    return _jpeg(_grey(hu, _within(SPOT_PIXELS, hu.shape, (z_mm, x_mm))))


def _slice(case: PreparedCase, name: str, z: int, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A part of an axial slice, [rows, columns]; beyond the case there is air, and no label."""
    part: np.ndarray = case.box(name, (int(z), int(start[0]), int(start[1])), (1, int(size[0]), int(size[1])))[0]
    return part


def _within(most: tuple[int, int], shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[int, int]:
    """The largest width and height within `most` that keep the proportions of a slice [rows, columns]."""
    height, width = (size * mm for size, mm in zip(shape, spacing_mm, strict=True))
    scale = min(most[0] / width, most[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _grey(hu: np.ndarray, pixels: tuple[int, int]) -> Image:
    """A slice in the window of soft tissue, at a size in pixels."""
    from PIL import Image  # comes with matplotlib

    low, high = WINDOW_HU
    levels = np.clip((hu.astype(np.float32) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(levels).resize(pixels, Image.Resampling.BICUBIC).convert("RGB")


def _outline(picture: Image, mask: np.ndarray, colour: str) -> None:
    """Draw a mask's outline onto the picture of its slice."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    scale = np.array(picture.size)[::-1] / mask.shape
    for polygon in outlines(mask):
        points = (polygon + 0.5) * scale  # a pixel's centre is half a pixel from its corner
        closed = np.vstack([points, points[:1]])[:, ::-1]
        draw.line([(float(x), float(y)) for x, y in closed], fill=colour, width=_LINE, joint="curve")


def _corners(picture: Image, box: tuple[np.ndarray, np.ndarray], shape: Sequence[int]) -> None:
    """Draw the four corners of a frame around a box (row, column) of the slice."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    scale = np.array(picture.size)[::-1] / shape
    (top, left), (bottom, right) = box[0] * scale - 5, box[1] * scale + 5
    for y, down in ((top, 1), (bottom, -1)):
        for x, along in ((left, 1), (right, -1)):
            draw.line([(x, y + down * _TICK), (x, y), (x + along * _TICK, y)], fill=FOUND_COLOUR, width=_LINE)


def _jpeg(picture: Image) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
        return file.getvalue()
