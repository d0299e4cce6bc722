"""Read a collection of real nodes' masks: a folder with nodes.csv and masks.npz.

nodes.csv has a row per node: its name (patient_lesion), the size of its box in voxels, the spacing and the box's centre
in mm, and the direction cosines of the array's axes x, y, z in (L, P, S). masks.npz holds the boxes' bits by name.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.errors import ImageError
from lnq.image import components
from lnq.image.volume import Volume, make_affine
from lnq.nodes.measure import axes_mm

CREDIT = (
    "Shapes from the TCIA collection CT Lymph Nodes (Roth et al. 2015, doi 10.7937/K9/TCIA.2015.AQIIDCNM, CC BY 3.0), "
    "as cut out by the ULS23 challenge."
)
COLUMNS = (
    "node",
    *("nz", "ny", "nx"),
    *("sz_mm", "sy_mm", "sx_mm"),
    *("l_mm", "p_mm", "s_mm"),
    *(f"d{i}" for i in range(9)),
)


@dataclass(frozen=True, eq=False)
class CollectedNode:
    """One node of the collection."""

    name: str  # patient_lesion
    mask: Volume  # bool, in LPS axes; the voxels lie to those of the patient's other nodes as they did
    short_axis_mm: float  # of the axial slice in which it is largest: least distance of two lines that enclose it

    @property
    def patient(self) -> str:
        return self.name.partition("_")[0]

    @property
    def height_mm(self) -> float:
        """Along the body."""
        return float(np.count_nonzero(self.mask.array.any(axis=(1, 2))) * self.mask.spacing_mm[0])

    @property
    def centre_mm(self) -> np.ndarray:
        """Centre of mass, z, y, x of the patient in mm."""
        index = np.argwhere(self.mask.array).mean(axis=0)
        centre: np.ndarray = (self.mask.affine @ [*index, 1.0])[2::-1]
        return centre


def read_collection(folder: Path) -> tuple[CollectedNode, ...]:
    """All nodes of a folder, in the order of nodes.csv.

    Raises ImageError where a file or a column is missing, a mask has another number of bits than its box or is empty,
    or an axis of the array lies along none of the patient's.
    """
    table, archive = folder / "nodes.csv", folder / "masks.npz"
    for file in (table, archive):
        if not file.is_file():
            raise ImageError("{folder} holds no {name}", folder=str(folder), name=file.name)
    with table.open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    missing = [column for column in COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise ImageError("{table} lacks the column {column}", table=str(table), column=missing[0])
    masks = _read_archive(archive)
    return tuple(_read_node(row, masks) for row in rows)


def _read_archive(file: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file by name."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:  # the last for a file of one array
        raise ImageError("{file} is no archive of masks", file=str(file)) from error


def _read_node(row: Mapping[str, str], masks: Mapping[str, np.ndarray]) -> CollectedNode:
    name = row["node"]
    try:
        numbers = {column: float(row[column]) for column in COLUMNS[1:]}
    except (TypeError, ValueError) as error:
        raise ImageError("the row of node {name} holds something else than numbers", name=name) from error
    if name not in masks:
        raise ImageError("masks.npz lacks node {name}", name=name)
    size = [int(numbers[c]) for c in ("nz", "ny", "nx")]
    bits, count = masks[name], int(np.prod(size))
    if bits.dtype != np.uint8 or bits.size != -(-count // 8):
        raise ImageError("node {name} has another number of bits than its box of {count}", name=name, count=count)
    array = np.unpackbits(bits.ravel(), count=count).reshape(size).astype(bool)  # [Z, Y, X]
    if not array.any():
        raise ImageError("the mask of node {name} is empty", name=name)
    mask = _oriented(name, _largest_part(array), numbers)
    return CollectedNode(name, mask, axes_mm(mask.array, mask.spacing_mm)[0])


def _largest_part(mask: np.ndarray) -> np.ndarray:
    labels, _ = components.label(mask)
    largest: np.ndarray = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return largest


def _oriented(name: str, mask: np.ndarray, numbers: Mapping[str, float]) -> Volume:
    """The mask in LPS axes. Its box keeps its centre. Raises ImageError for axes that are not the patient's."""
    spacing = np.array([numbers[c] for c in ("sz_mm", "sy_mm", "sx_mm")])
    axes = np.array([numbers[f"d{i}"] for i in range(9)]).reshape(3, 3)[::-1]  # rows: array axes z, y, x in (L, P, S)
    signs = np.diag(axes[:, ::-1])  # how far each lies along S, P, L
    if not (spacing > 0).all() or (np.abs(signs) < 0.99).any():
        raise ImageError("node {name} has no positive spacing or lies askew in its patient", name=name)
    upright = mask[tuple(slice(None, None, 1 if sign > 0 else -1) for sign in signs)]
    centre = np.array([numbers[c] for c in ("l_mm", "p_mm", "s_mm")])
    corner = centre - ((np.array(mask.shape) - 1) / 2 * spacing)[::-1]
    return Volume(upright, make_affine(spacing.tolist(), corner.tolist()))
