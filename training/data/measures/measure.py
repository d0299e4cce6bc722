"""Measure a prepared case from its arrays, and from its source where that is at hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from lnq.image.plausible import blood_hu
from lnq.image.resample import reorient_to_lps, resampled_grid
from lnq.image.volume import Box, Volume, make_affine
from lnq.nodes.measure import Landmarks, find_landmarks
from training.data.measures.record import (
    VERSION,
    CaseMeasures,
    SourceMeasures,
    read_measures,
    write_measures,
)
from training.data.measures.shift import best_shift
from training.data.measures.sides import sides
from training.data.measures.source import measure_source
from training.data.measures.tissue import marked_nodes
from training.data.prepared import CROPPED, PreparedCase
from training.data.sources.find import read_pair
from training.data.sources.raw_case import RawCase
from training.data.sources.states import node_of


def measure_case(image: Volume, label: np.ndarray, region: np.ndarray, lungs: int) -> CaseMeasures:
    """Measure a prepared case's arrays, all [Z, Y, X]: HU in LPS axes, label (above 0: node), mediastinal region.

    `lungs`: how many were found in it.
    """
    region = region > 0
    is_chest = lungs == 2 and not region.all()
    blood = blood_hu(image, region)
    landmarks = find_landmarks(image, region) if is_chest else Landmarks(None, None)
    return CaseMeasures(
        version=VERSION,
        nodes=tuple(marked_nodes(image, label, region, blood, landmarks)),
        blood_hu=None if blood is None else round(blood, 1),
        shift=best_shift(image, label),
        sides=sides(image.array) if is_chest else None,
    )


def add_measures(folder: Path, raw: RawCase | None = None) -> None:
    """Measure a prepared case and write `measures.json` into its folder, unless what can be measured is there.

    What the arrays do not hold is measured from the source `raw`; it stays out where there is none, or it cannot be
    read. Raises OSError and ValueError where the prepared case cannot be read.
    """
    there = read_measures(folder)
    if there is not None and (there.source is not None or raw is None):
        return
    case = PreparedCase(folder)
    if there is None:
        image = Volume(case.whole("image"), make_affine(case.info.spacing_mm))
        there = measure_case(image, case.whole("label"), case.whole("region"), _lungs(case))
    if raw is not None:
        there = dataclasses.replace(there, source=_source_again(case, raw))
    write_measures(folder, there)


def is_measured(folder: Path) -> bool:
    """Whether a prepared case's folder holds all measurements."""
    there = read_measures(folder)
    return there is not None and there.source is not None


def _lungs(case: PreparedCase) -> int:
    return int(case.info.provenance.get(CROPPED, {}).get("lungs", 2))


def _source_again(case: PreparedCase, raw: RawCase) -> SourceMeasures | None:
    """Read the source once more and measure it; None where that fails: only the page would have shown it."""
    crop = case.info.provenance.get(CROPPED, {}).get("box")
    if crop is None:
        return None
    try:
        image, label = read_pair(raw)
        z, y, x = (slice(first, last) for first, last in crop)
        return measure_source(image, node_of(label, raw), prepared_grid(image, (z, y, x), case))
    except (OSError, ValueError, MemoryError):
        return None


def prepared_grid(image: Volume, box: Box, case: PreparedCase) -> Volume:
    """The grid of a prepared case, with an empty array: of the CT in LPS axes, its `box`, resampled."""
    shape, affine = resampled_grid(reorient_to_lps(image)[0].crop(box), case.info.spacing_mm)
    return Volume(np.broadcast_to(np.uint8(0), shape), affine)
