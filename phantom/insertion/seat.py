"""Where a group of nodes fits: the best of many spots at a station."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phantom.insertion.draw import Group, points_within
from phantom.insertion.push import Push
from phantom.insertion.tissue import AIRWAY, BONE, DEEP, FAT, LUNG, NODE, SOFT, WALL

TRIES = 300
_POINTS = 900  # at most, of a shape, which are looked at
_STEP = 1 / 7  # of the short axis, between them
CONTACT_MM = 2.5  # a vessel this near counts as touching
CONTACT = 0.4  # part of the surroundings that is soft tissue around most nodes: they touch vessels and lie in fat
_LUCK = 0.15  # of the score, so that the best seat is not always the same
MOST_AIRWAY = 0.005  # part of a node
MOST_OUT = 0.02  # part of a node on bone or out of bounds
# Short axes in mm, and for each the largest part of the node that may lie on lung, on soft tissue and on what is deep
# in it, and of the core that is not pushed away the largest part on each of the last two. A bulky node bulges into the
# lung.
SIZES_MM = (8.0, 12.0, 25.0)
MOST_LUNG = (0.03, 0.10, 0.30)
MOST_SOFT = (0.30, 0.40, 0.60)
MOST_DEEP = (0.02, 0.05, 0.18)
MOST_SOFT_CORE = (0.25, 0.25, 0.40)
MOST_DEEP_CORE = (0.01, 0.02, 0.04)


@dataclass(frozen=True, eq=False)
class Probe:
    """Points of one node at which the tissue is looked at, as offsets z, y, x in voxels from its group's centre."""

    short_axis_mm: float
    inside: np.ndarray  # [N, 3]
    core: np.ndarray  # [M, 3]: the part that is not pushed away
    around: np.ndarray  # [K, 3]: within 2.5 mm of the surface


def make_probes(
    rng: np.random.Generator, group: Group, push: Push, spacing_mm: tuple[float, float, float]
) -> list[Probe]:
    """The points of each node of a group, for its push. Where the core is thin, it is the deepest third."""
    probes = []
    for member in group.members:
        shape, spacing = member.shape, np.array(spacing_mm)
        points = points_within(shape, max(_STEP * shape.short_axis_mm, shape.reach_mm / 20), CONTACT_MM)
        points = points[rng.permutation(len(points))[: 3 * _POINTS]]
        distance = shape.signed_distance(points)
        inside = distance <= 0
        core = inside & (distance <= max(-push.depth_mm, np.quantile(distance[inside], 1 / 3)))
        kinds = ((points[which] + member.offset_mm)[:_POINTS] / spacing for which in (inside, core, ~inside))
        probes.append(Probe(shape.short_axis_mm, *kinds))
    return probes


def find_seat(
    rng: np.random.Generator, probes: Sequence[Probe], classes: np.ndarray, spots: np.ndarray
) -> np.ndarray | None:
    """The best of `spots` (indices z, y, x [S, 3]) for a group, or None where it fits at none.

    At a seat each of its nodes overlaps no other, next to no airway and bone, and little lung and soft tissue. At the
    best one they lie in fat and touch soft tissue, but for some luck. `classes`: of phantom.insertion.tissue.
    """
    scores = np.array([_score(probe, classes, spots) for probe in probes]).mean(axis=0)  # [S], inf where none fits
    best = np.argmin(scores + rng.uniform(0, _LUCK, len(spots)))
    found: np.ndarray = spots[best]
    return found if np.isfinite(scores[best]) else None


def _score(probe: Probe, classes: np.ndarray, spots: np.ndarray) -> np.ndarray:
    """How badly a node lies at each spot, [S]; infinite where it does not fit."""
    inside, core, around = (_look(classes, spots, points) for points in (probe.inside, probe.core, probe.around))
    lung, soft, deep = _part(inside, LUNG), _part(core, SOFT, DEEP), _part(core, DEEP)
    parts = (lung, _part(inside, SOFT, DEEP), _part(inside, DEEP), soft, deep)
    limits = (MOST_LUNG, MOST_SOFT, MOST_DEEP, MOST_SOFT_CORE, MOST_DEEP_CORE)
    fits = (
        (_part(np.concatenate([inside, around], axis=1), NODE) == 0)
        & (_part(inside, AIRWAY) <= MOST_AIRWAY)
        & (_part(inside, BONE, WALL) <= MOST_OUT)
    )
    for part, most in zip(parts, limits, strict=True):
        fits &= part <= np.interp(probe.short_axis_mm, SIZES_MM, most)
    contact = np.abs(_part(around, SOFT, DEEP) - CONTACT)
    score = soft + 2 * deep + lung + 0.5 * contact - 0.3 * _part(inside, FAT)
    return np.where(fits, score, np.inf)


def _look(classes: np.ndarray, spots: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The classes at points [N, 3] around spots [S, 3], uint8 [S, N]. Beyond the CT is WALL."""
    index = np.rint(spots[:, None] + points).astype(int)  # [S, N, 3]
    limit = np.array(classes.shape)
    beyond = ((index < 0) | (index >= limit)).any(axis=-1)
    z, y, x = np.moveaxis(np.clip(index, 0, limit - 1), -1, 0)
    return np.where(beyond, WALL, classes[z, y, x])


def _part(classes: np.ndarray, *wanted: int) -> np.ndarray:
    part: np.ndarray = np.isin(classes, wanted).mean(axis=1)
    return part
