"""The figures and histograms that describe a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lnq.image.plausible import CONTRAST_HU
from lnq.nodes.measure import SHORT_AXES_MM
from lnq.report.tables import Figure, number
from training.dataset_page.cases import FULL, PARTIAL, THREE_STATES, ShownCase

_SHORT_AXIS_MM = (0.0, 5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0)
_VOLUME_CM3 = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_ABOVE_CARINA_MM = (-120.0, -80.0, -60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0, 80.0)
_NODES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0)


@dataclass(frozen=True)
class FigureGroup:
    """Figures under one heading."""

    title: str
    figures: list[Figure]


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram."""

    name: str  # its range
    count: int
    share: float  # of the highest bar, from 0 to 1


@dataclass(frozen=True)
class Histogram:
    """How often a value lies in which range."""

    title: str
    bars: list[Bar]


def figure_groups(cases: Sequence[ShownCase], left_out: int) -> list[FigureGroup]:
    """The figures of a data set; `left_out` is the number of cases that could not be prepared."""
    return [
        FigureGroup("Cases", _of_cases(cases, left_out)),
        FigureGroup("Annotation", _of_annotation(cases)),
        FigureGroup("Places of nodes", _of_places(cases)),
        FigureGroup("Images", _of_images(cases)),
    ]


def has_contrast(case: ShownCase) -> bool | None:
    """Whether the CT was made with contrast medium, as far as the image tells; None where it does not."""
    blood = case.measures.blood_hu if case.measures is not None else None
    return None if blood is None else blood >= CONTRAST_HU


def nodes_of(case: ShownCase) -> int:
    """How many nodes are annotated: on the label's own grid where that was measured, or else on the prepared one."""
    if case.measures is not None and case.measures.source is not None:
        return len(case.measures.source.volumes_mm3)
    return len(case.info.node_volumes_mm3)


def _of_cases(cases: Sequence[ShownCase], left_out: int) -> list[Figure]:
    kinds = Counter(case.annotation for case in cases)
    splits = Counter(case.split or "without a split" for case in cases)
    return [
        Figure("cases", number(len(cases))),
        Figure("patients", number(len({case.patient for case in cases}))),
        *(Figure(name, number(kinds[kind])) for name, kind in _ANNOTATIONS if kinds[kind]),
        *(Figure(_PARTS.get(name, name), number(count)) for name, count in sorted(splits.items())),
        Figure("left out", number(left_out), left_out > 0),
    ]


_ANNOTATIONS = (("annotated in part", PARTIAL), ("annotated in full", FULL), ("with unknown voxels", THREE_STATES))
_PARTS = {"train": "for training", "validation": "for validation", "test": "for test"}


def _of_annotation(cases: Sequence[ShownCase]) -> list[Figure]:
    counts = [nodes_of(case) for case in cases]
    axes = list(short_axes_mm(cases))
    partial = [case.certain for case in cases if case.certain is not None and not case.info.full]
    figures = [Figure("nodes annotated", number(sum(counts))), *_spread("nodes per case", counts, "")]
    figures += _spread("short axis", axes, "mm", 1)
    figures += [Figure(f"nodes ≥ {limit:g} mm", number(sum(axis >= limit for axis in axes))) for limit in SHORT_AXES_MM]
    figures += _spread("volume of a node", list(volumes_cm3(cases)), "cm³", 2)
    if partial:
        share = float(np.mean([one.share_of_region for one in partial]))
        figures.append(Figure("of the region certain background, in partial cases", f"{share:.0%}"))
    return figures


def _of_places(cases: Sequence[ShownCase]) -> list[Figure]:
    nodes = [node for case in cases if case.measures is not None for node in case.measures.nodes]
    above = [node.above_carina_mm for node in nodes if node.above_carina_mm is not None]
    sides = Counter(node.side for node in nodes)
    return [
        Figure("above the carina", number(sum(mm >= 0 for mm in above))),
        Figure("below it", number(sum(mm < 0 for mm in above))),
        Figure("carina not found", number(len(nodes) - len(above))),
        *(Figure(name, number(sides[name])) for name in ("right", "middle", "left")),
        *([Figure("side not known", number(sides[None]))] if sides[None] else []),
    ]


def _of_images(cases: Sequence[ShownCase]) -> list[Figure]:
    sources = [case.measures.source for case in cases if case.measures is not None]
    known = [source for source in sources if source is not None]
    contrast = Counter(has_contrast(case) for case in cases)
    return [
        Figure("with contrast medium", number(contrast[True])),
        Figure("without", number(contrast[False])),
        *([Figure("contrast not known", number(contrast[None]))] if contrast[None] else []),
        *_spread("between slices", [source.spacing_mm[0] for source in known], "mm", 2),
        *_spread("pixel", [source.spacing_mm[2] for source in known], "mm", 2),
        *_spread("field of view across", [source.field_mm[2] for source in known], "mm"),
        *_spread("along the patient", [source.field_mm[0] for source in known], "mm"),
    ]


def _spread(name: str, values: Sequence[float], unit: str, decimals: int = 0) -> list[Figure]:
    """A figure with the median, and in its name the range; nothing where there are no values."""
    if not values:
        return []
    low, high = (number(end, decimals) for end in (min(values), max(values)))
    text = number(float(np.median(values)), decimals) + (f" {unit}" if unit else "")
    return [Figure(f"{name}: median ({low} to {high})" if low != high else name, text)]


def short_axes_mm(cases: Sequence[ShownCase]) -> Iterator[float]:
    """The short axis of each node, on the labels' own grids."""
    for case in cases:
        if case.measures is not None and case.measures.source is not None:
            yield from case.measures.source.short_axes_mm


def volumes_cm3(cases: Sequence[ShownCase]) -> Iterator[float]:
    """The volume of each node, on the labels' own grids."""
    for case in cases:
        yield from (volume / 1000 for volume in case.info.node_volumes_mm3)


def histograms(cases: Sequence[ShownCase]) -> list[Histogram]:
    """How sizes, places and numbers of nodes are spread; those without a value are left out."""
    nodes = [node for case in cases if case.measures is not None for node in case.measures.nodes]
    above = [node.above_carina_mm for node in nodes if node.above_carina_mm is not None]
    wanted = (
        ("Short axis, from mm", list(short_axes_mm(cases)), _SHORT_AXIS_MM),
        ("Volume, from cm³", list(volumes_cm3(cases)), _VOLUME_CM3),
        ("Above the carina, from mm", above, _ABOVE_CARINA_MM),
        ("Nodes per case, from", [float(nodes_of(case)) for case in cases], _NODES),
    )
    return [histogram(title, values, limits) for title, values, limits in wanted if values]


def histogram(title: str, values: Sequence[float], limits: Sequence[float]) -> Histogram:
    """Counts between limits. The first bar takes all below the second limit, the last all from the last one on."""
    inner = limits[1:]
    where = np.searchsorted(inner, values, side="right")
    counts = np.bincount(where, minlength=len(limits)).tolist()
    names = [f"< {_text(inner[0])}", *(_text(limit) for limit in inner[:-1]), f"≥ {_text(inner[-1])}"]
    most = max(counts)
    return Histogram(title, [Bar(name, n, n / most) for name, n in zip(names, counts, strict=True)])


def _text(value: float) -> str:
    return number(value, 0 if value == round(value) else 1)
