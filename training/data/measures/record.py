"""The measurements of a prepared case, and the file that keeps them: `measures.json` in the case's folder.

Training does not read them. They are for the data set's page (see `training.dataset_page`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lnq.files import write_text
from lnq.inference.spec import IntTriple, Triple
from lnq.plain import check_types, from_plain, to_plain

NAME = "measures.json"
VERSION = 1  # of what is measured and how: with another one, cases are measured again

Corners = tuple[IntTriple, IntTriple]
"""First voxel (z, y, x) of a box on the prepared grid, and the voxel after its last one."""


@dataclass(frozen=True)
class MarkedNode:
    """One annotated node: a component of the label on the prepared grid. Shares are of its voxels, from 0 to 1."""

    box: Corners
    volume_mm3: float
    mean_hu: float
    air: float  # share with the HU of air or lung
    bright: float  # share brighter than nodes: bone, calcium, blood with contrast medium
    bright_hu: float  # mean of that share; 0 where there is none
    bright_spread_hu: float  # its deviation: small in blood, large in bone
    outside: float  # share outside the mediastinal region
    side: str | None  # left, right or middle; None where it is not known
    above_carina_mm: float | None  # below it negative; None where the carina was not found


@dataclass(frozen=True)
class Sliver:
    """A component that is one voxel thick on the label's own grid."""

    box: Corners
    thickness_mm: float  # of that voxel
    short_axis_mm: float  # within the slice
    long_axis_mm: float


@dataclass(frozen=True)
class SourceMeasures:
    """What is measured on the source's own grids: the CT's, and the label's."""

    spacing_mm: Triple  # of the CT: z, y, x in LPS axes
    field_mm: Triple  # of the CT
    oriented: bool  # whether the CT's file tells left from right
    short_axes_mm: tuple[float, ...]  # of each component of each value of the label
    volumes_mm3: tuple[float, ...]  # in the same order
    slivers: tuple[Sliver, ...]


@dataclass(frozen=True)
class Shift:
    """How well the label fits the image where it lies, and where it fits best nearby.

    The edge is the mean HU inside the label less that of a rim around it, both clipped to soft tissue and fat.
    """

    best_mm: Triple  # how the label has to be moved, along z (up), y (back) and x (left)
    edge_hu: float  # where the label lies
    best_edge_hu: float  # where it fits best
    soft: float  # share of soft tissue inside the label where it lies
    best_soft: float
    agreeing: float  # share of the annotated volume, in nodes that fit better there too


@dataclass(frozen=True)
class CaseMeasures:
    """The content of `measures.json`."""

    version: int
    nodes: tuple[MarkedNode, ...]
    blood_hu: float | None  # typical HU of heart and great vessels; None where there is too little soft tissue
    shift: Shift | None  # None where nothing is annotated
    sides: tuple[int, ...] | None  # how left differs from right (see `sides`); None without two lungs
    source: SourceMeasures | None = None  # None where the source could not be read


def read_measures(folder: Path) -> CaseMeasures | None:
    """A prepared case's measurements; None where there are none, or of another version, or the file is damaged."""
    try:
        content = json.loads((folder / NAME).read_text())
        if content["version"] != VERSION:
            return None
        measures = from_plain(CaseMeasures, content)
        check_types(measures)
        return measures
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_measures(folder: Path, measures: CaseMeasures) -> None:
    """Write a prepared case's measurements into its folder, atomically."""
    write_text(folder / NAME, json.dumps(to_plain(measures)) + "\n")
