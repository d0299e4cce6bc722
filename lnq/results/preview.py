"""Draw a picture of a result: axial slices and a coronal one, with outlines of the found nodes and the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lnq.files import replace_atomically
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume

WINDOW_HU = (-160.0, 240.0)  # soft tissue: centre 40, width 400
FOUND_COLOUR = "#E69F00"  # Okabe and Ito's orange, which colour-blind people can tell from their sky blue
TRUTH_COLOUR = "#56B4E9"  # the sky blue
_AXIAL = 5  # number of axial slices
_MARGIN_MM = 30.0  # shown around the marked voxels
_LEAST_VIEW_MM = 150.0  # least side of the shown part
_PANEL_INCHES = 4.0
_NUMBER_STYLE: dict[str, Any] = {
    "color": FOUND_COLOUR, "fontsize": 9, "fontweight": "bold", "ha": "left", "va": "top", "annotation_clip": True
}  # fmt: skip


def preview(volume: Volume, nodes: Volume, path: Path, truth: Volume | None = None, title: str = "") -> None:
    """Write a PNG of `volume` (HU) with the outlines and numbers of `nodes`, and the outlines of `truth` where given.

    All three have the same grid. `nodes` holds each node's number in its voxels, `truth` is above 0 in its voxels.
    Axial slices are shown as radiologists look at them: the patient's left is on the right, the front on top. Raises
    OSError where the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(3 * _PANEL_INCHES, 2 * _PANEL_INCHES + 0.8), facecolor="black", layout="constrained")
    draw_panels(figure, volume, nodes, truth)
    handles = [Line2D([], [], color=FOUND_COLOUR, label="found")]
    if truth is not None:
        handles.append(Line2D([], [], color=TRUTH_COLOUR, label="truth"))
    figure.suptitle(title, color="white")
    figure.legend(handles=handles, loc="outside lower center", ncols=2, facecolor="black", labelcolor="white")
    with replace_atomically(path) as part:
        figure.savefig(part, dpi=100, format="png")


def draw_panels(figure: Any, volume: Volume, nodes: Volume, truth: Volume | None = None) -> None:
    """Draw a picture's six panels into a figure of matplotlib: five axial slices and a coronal one, all on black."""
    image, _ = reorient_to_lps(volume)
    found = reorient_to_lps(nodes)[0].array
    wanted = None if truth is None else reorient_to_lps(truth)[0].array > 0
    marked = found > 0 if wanted is None else (found > 0) | wanted
    z, y, x = image.spacing_mm
    figure.set_facecolor("black")
    panels = figure.subplots(2, 3).ravel()
    for axes in panels:
        axes.set_axis_off()  # even for panels that stay empty because few slices are marked
        axes.set(xticks=[], yticks=[])  # which matplotlib would lay out all the same
    _, rows, columns = marked_box(marked, image)
    for axes, index in zip(panels, axial_slices(marked), strict=False):
        cut = (index, rows, columns)
        _draw(axes, image.array[cut], found[cut], None if wanted is None else wanted[cut], y / x)
        axes.set_title(f"axial, slice {index + 1} of {image.shape[0]}", color="white", fontsize=10)
    middle = _busiest(marked, axis=1)
    coronal = (slice(None, None, -1), middle, slice(None))
    _draw(panels[-1], image.array[coronal], found[coronal], None if wanted is None else wanted[coronal], z / x)
    panels[-1].set_title(f"coronal, row {middle + 1} of {image.shape[1]}", color="white", fontsize=10)


def axial_slices(marked: np.ndarray, count: int = _AXIAL) -> list[int]:
    """Indices of up to `count` slices that represent `marked` (bool [Z, Y, X]), with the patient's top first.

    Each is the middle of one of `count` equal shares of the marked volume. Where nothing is marked, the slices are
    spread evenly.
    """
    area = marked.sum(axis=(1, 2))
    shares = (np.arange(count) + 0.5) / count
    if area.any():
        chosen = np.searchsorted(np.cumsum(area), shares * area.sum())
    else:
        chosen = (shares * len(area)).astype(int)
    return sorted({int(i) for i in chosen}, reverse=True)


def _busiest(marked: np.ndarray, axis: int) -> int:
    others = tuple(a for a in range(3) if a != axis)
    area = marked.sum(axis=others)
    return int(area.argmax()) if area.any() else marked.shape[axis] // 2


def marked_box(marked: np.ndarray, image: Volume) -> tuple[slice, slice, slice]:
    """The box to show: around the marked voxels (bool [Z, Y, X]), or the whole image where there are none."""
    if not marked.any():
        return slice(None), slice(None), slice(None)
    box: list[slice] = []
    for axis, spacing in enumerate(image.spacing_mm):
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(marked.any(axis=others))
        centre = (where[0] + where[-1]) / 2
        half = max((where[-1] - where[0]) / 2 + _MARGIN_MM / spacing, _LEAST_VIEW_MM / 2 / spacing)
        box.append(slice(max(0, int(centre - half)), int(centre + half) + 1))
    z, y, x = box
    return z, y, x


def _draw(axes: Any, pixels: np.ndarray, found: np.ndarray, wanted: np.ndarray | None, aspect: float) -> None:
    low, high = WINDOW_HU
    axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear")
    numbers = [int(number) for number in np.unique(found) if number > 0]
    for number in numbers:
        row, column = np.argwhere(found == number).max(axis=0)  # below and to the right of the outline
        axes.annotate(str(number), (column, row), (3, -3), textcoords="offset points", **_NUMBER_STYLE)
    for mask, colour, width in ((wanted, TRUTH_COLOUR, 2.4), (found > 0, FOUND_COLOUR, 1.2)):  # thin over thick lines
        if mask is not None and mask.any():
            axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width)
