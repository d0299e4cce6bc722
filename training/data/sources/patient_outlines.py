"""Labels as outlines in patient coordinates: a small file without voxels, which fits every copy of its CT.

The file is JSON. `rest` is the state of all that no outline holds; `marks` are connected pieces of other states, each
with its centre and its polygons, points (L, P, S) in mm. A polygon lies in one slice of the CT, and holds the pixels
whose centres lie within it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from lnq.files import write_text
from lnq.image.components import label as label_components
from lnq.image.volume import Box, Volume
from lnq.results.outlines import outlines
from training.data.sources.states import BACKGROUND, NODE, UNKNOWN

FORMAT = "lnq outlines 1"
STATES = {"background": BACKGROUND, "node": NODE, "unknown": UNKNOWN}
_OFF_SLICE = 0.1  # of a slice's distance: a polygon farther off its slice is one of another CT
_DECIMALS = 3  # of mm


@dataclass(frozen=True)
class OutlinedPiece:
    """A connected piece of one state."""

    state: str  # a name of STATES
    centre_lps_mm: tuple[float, float, float]
    polygons: tuple[np.ndarray, ...]  # each [points, 3], (L, P, S) in mm


def write_outlines(path: Path, states: Volume, facts: Mapping[str, Any]) -> None:
    """Write a label of three states (uint8 [Z, Y, X]) as outlines. `facts` say where it comes from.

    The state that most voxels have is the rest.
    """
    rest = int(np.argmax(np.bincount(states.array.ravel(), minlength=len(STATES))))
    names = {value: name for name, value in STATES.items()}
    marks = [mark for value, name in names.items() if value != rest for mark in _marks(states, value, name)]
    head = json.dumps({"format": FORMAT, **facts, "rest": names[rest]}, indent=1).removesuffix("\n}")
    lines = ",\n  ".join(json.dumps(_plain(mark)) for mark in marks)  # each in a line of its own
    write_text(path, f'{head},\n "marks": [\n  {lines}\n ]\n}}\n')


def _marks(states: Volume, value: int, name: str) -> list[OutlinedPiece]:
    """The 26-connected pieces of a state."""
    numbers, _ = label_components(states.array == value)
    boxes = enumerate(ndimage.find_objects(numbers), start=1)
    return [_mark(states, box, numbers[box] == number, name) for number, box in boxes]


def _mark(states: Volume, box: Box, piece: np.ndarray, name: str) -> OutlinedPiece:
    corner = np.array([side.start for side in box])
    polygons = []
    for z in range(piece.shape[0]):
        for points in outlines(piece[z]):
            index = np.column_stack([np.full(len(points), z), points]) + corner
            polygons.append(_at(states, index))
    centre = _at(states, np.argwhere(piece).mean(axis=0)[None] + corner)[0]
    return OutlinedPiece(name, (float(centre[0]), float(centre[1]), float(centre[2])), tuple(polygons))


def _at(grid: Volume, index: np.ndarray) -> np.ndarray:
    """Positions (L, P, S) in mm of indices z, y, x, both [N, 3]."""
    positions: np.ndarray = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return positions


def _plain(mark: OutlinedPiece) -> dict[str, Any]:
    return {
        "state": mark.state,
        "centre_lps_mm": [round(value, 1) for value in mark.centre_lps_mm],
        "polygons_lps_mm": [np.round(points, _DECIMALS).tolist() for points in mark.polygons],
    }


def read_outlines(path: Path, ct: Volume) -> Volume:
    """The label of three states, uint8, on a CT's grid.

    Raises ValueError where the file is damaged, or where an outline lies in no slice of the CT.
    """
    rest, marks = _read(path)
    label = np.full(ct.shape, STATES[rest], np.uint8)
    inverse = np.linalg.inv(ct.affine)
    for mark in marks:
        for points in mark.polygons:
            index = points @ inverse[:3, :3].T + inverse[:3, 3]
            z = round(float(index[0, 0]))
            if np.abs(index[:, 0] - z).max() > _OFF_SLICE or not 0 <= z < ct.shape[0]:
                raise ValueError(f"{path.name} has an outline that lies in no slice of its CT: a wrong pair?")
            _fill(label[z], index[:, 1:], STATES[mark.state])
    return ct.with_array(label)


def _fill(image: np.ndarray, polygon: np.ndarray, value: int) -> None:
    """Set the pixels of an image [Y, X] whose centres lie within a polygon, [points, 2] of row and column."""
    from matplotlib.path import Path as Polygon

    low = np.maximum(np.floor(polygon.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(polygon.max(axis=0)).astype(int) + 1, image.shape)
    rows, columns = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]), indexing="ij")
    inside = Polygon(polygon).contains_points(np.column_stack([rows.ravel(), columns.ravel()]))
    image[low[0] : high[0], low[1] : high[1]][inside.reshape(rows.shape)] = value


def _read(path: Path) -> tuple[str, Sequence[OutlinedPiece]]:
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT or content["rest"] not in STATES:
            raise ValueError
        marks = []
        for one in content["marks"]:
            polygons = tuple(np.array(points, float).reshape(-1, 3) for points in one["polygons_lps_mm"])
            left, posterior, superior = map(float, one["centre_lps_mm"])
            if one["state"] not in STATES or not all(len(points) and np.isfinite(points).all() for points in polygons):
                raise ValueError
            marks.append(OutlinedPiece(one["state"], (left, posterior, superior), polygons))
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path.name} is no file of outlines, or it is damaged") from None
    return str(content["rest"]), marks
