"""Certain background: voxels of a prepared case that cannot be node, from the image and the annotation (METHOD 9).

All else that is not annotated is unknown. What a source says of background counts too. An annotation always wins.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from lnq.files import write_bytes, write_text
from lnq.inference.spec import Triple
from lnq.plain import from_plain, to_plain
from training.data.prepared import PreparedCase, packed

CERTAIN = "certain"
_FACTS = "certain.json"
VERSION = 2  # of the rules below: with another one, cases are done again
_SMOOTH_MM = 1.0  # deviation of the Gaussian that noise is smoothed by
_AIR_HU = -200.0  # air and lung lie below
FAT_HU = (-150.0, -30.0)
_BALL_MM = 12.0  # radius; few nodes hold such a ball, while heart, aorta, liver and muscle do


@dataclass(frozen=True)
class CertainFacts:
    """The content of `certain.json`: how a case's certain background was found, and how much it is."""

    version: int
    clip_hu: tuple[float, float]  # of the data set, see `training.data.dataset_info`
    share: float  # of all voxels
    share_of_region: float  # of the mediastinal region's


def certain_background(
    hu: np.ndarray, node: np.ndarray, region: np.ndarray, spacing_mm: Triple, clip_hu: tuple[float, float]
) -> np.ndarray:
    """Voxels that are certainly no node, bool [Z, Y, X].

    `hu`, `node` (above 0: annotated) and `region` (where nodes can be) are [Z, Y, X]. `clip_hu`: the 0.5 and 99.5
    percentiles of the HU under annotated nodes.
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), [_SMOOTH_MM / s for s in spacing_mm])
    bright = smooth > clip_hu[1] + (clip_hu[1] - clip_hu[0]) / 4
    denser = smooth > FAT_HU[1]
    # A node's border has the HU of fat or lung where it fills a part of its voxels: so these count a voxel away from
    # what is denser. A rim around annotated nodes is not certain: where borders are drawn a voxel or two too far
    # inside, it is node.
    light = ((smooth < _AIR_HU) | (smooth >= FAT_HU[0])) & ~ndimage.binary_dilation(denser, np.ones((3, 3, 3)))
    found = (region == 0) | light | bright | _holding_a_ball(denser & ~bright, spacing_mm)
    certain: np.ndarray = found & (node == 0)
    return certain


def _holding_a_ball(tissue: np.ndarray, spacing_mm: Triple) -> np.ndarray:
    """The voxels of all balls of `_BALL_MM` that fit into some tissue (bool): its opening with that ball."""
    centres = ndimage.distance_transform_edt(tissue, spacing_mm) > _BALL_MM
    if not centres.any():
        return np.zeros_like(tissue)
    held: np.ndarray = tissue & (ndimage.distance_transform_edt(~centres, spacing_mm) <= _BALL_MM)
    return held


def add_certain(folder: Path, clip_hu: tuple[float, float]) -> None:
    """Find a prepared case's certain background, and write it beside its other arrays, unless it is there."""
    if (facts := read_certain(folder)) is not None and (facts.version, facts.clip_hu) == (VERSION, clip_hu):
        return
    case = PreparedCase(folder)
    node, region = case.whole("label"), case.whole("region")
    if case.info.full:
        found = node == 0
    else:
        found = certain_background(case.whole("image"), node, region, case.info.spacing_mm, clip_hu)
        if case.info.told:
            found |= (case.whole("told") > 0) & (node == 0)
    inside = found[region > 0]
    share = float(inside.mean()) if inside.size else 1.0
    write_bytes(folder / f"{CERTAIN}.b2nd", packed(found.astype(np.uint8)))
    facts = CertainFacts(VERSION, clip_hu, round(float(found.mean()), 4), round(share, 4))
    write_text(folder / _FACTS, json.dumps(to_plain(facts), indent=1) + "\n")


def read_certain(folder: Path) -> CertainFacts | None:
    """How a case's certain background was found; None where it was not, or where the file is damaged."""
    try:
        return from_plain(CertainFacts, json.loads((folder / _FACTS).read_text()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def refuse_missing(folder: Path) -> None:
    """Raise ValueError where a case's certain background was not found, or by other rules."""
    facts = read_certain(folder)
    if facts is None:
        raise ValueError(f"{folder} has no certain background: run training.prepare again")
    if facts.version != VERSION:
        raise ValueError(f"The certain background of {folder} was found by other rules: run training.prepare again")
