"""The scores of nodes that were inserted into real CTs, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.machine import caption
from benchmarks.output import markdown_table
from lnq.version import __version__

SIZES_MM = (0.0, 8.0, 16.0, float("inf"))  # classes of short axis
LARGE_MARK_MM = 10.0  # short axis from which a radiologist would look at another mark
LOW_MM = -40.0  # above the carina: heart, diaphragm and oesophagus lie below, and seldom a node
FEW_MARKS = 3.5  # other marks per CT at which bundles are compared
Cut = tuple[float, float]
"""Threshold, and threshold of a mark's highest probability."""


@dataclass(frozen=True)
class Mark:
    """A mark that touches no inserted node."""

    short_axis_mm: float
    above_carina_mm: float | None  # None where the carina was not found


@dataclass(frozen=True)
class InsertedScore:
    """What one bundle marks in one case at one pair of thresholds."""

    cut: Cut
    nodes_mm: tuple[float, ...]  # short axis of each inserted node
    found: tuple[bool, ...]  # whether each was found
    dice: float  # of the inserted nodes and the marks that touch one
    others: tuple[Mark, ...]


@dataclass(frozen=True)
class InsertedCase:
    """One bundle's scores in one case, at all pairs of thresholds."""

    case: str
    background: str  # the CT that nodes were inserted into
    scores: tuple[InsertedScore, ...]


def row_of(name: str, scores: Sequence[InsertedScore]) -> tuple[str, ...]:
    """A row of COLUMNS: a bundle's scores in all cases, at one pair of thresholds."""
    sizes = np.array([mm for one in scores for mm in one.nodes_mm])
    found = np.array([hit for one in scores for hit in one.found], bool)
    counts = []
    for low, high in pairwise(SIZES_MM):
        inside = (sizes >= low) & (sizes < high)
        counts.append(f"{100 * found[inside].mean():.0f} % of {inside.sum()}" if inside.any() else "")
    marks = [mark for one in scores for mark in one.others]
    kinds = (
        len(marks),
        sum(mark.short_axis_mm >= LARGE_MARK_MM for mark in marks),
        sum(mark.above_carina_mm is not None and mark.above_carina_mm < LOW_MM for mark in marks),
    )
    mean_dice = float(np.mean([one.dice for one in scores]))
    cut = (f"{value:g}" for value in scores[0].cut)
    return (name, *cut, *counts, f"{mean_dice:.2f}", *(f"{n / len(scores):.1f}" for n in kinds))


COLUMNS = (
    "bundle", "at threshold", "and peak", "found below 8 mm", "8 to 16 mm", "16 mm and more", "Dice of inserted nodes",
    "other marks per CT", "of 10 mm and more", "more than 40 mm below the carina",
)  # fmt: skip


def rows_of(name: str, cases: Sequence[InsertedCase], own: Cut) -> list[tuple[str, ...]]:
    """A bundle's row at its own thresholds, and at those that find most with at most FEW_MARKS other marks per CT."""
    by_cut = {one[0].cut: one for one in zip(*(case.scores for case in cases), strict=True)}
    rows = [row_of(name, by_cut[own])]
    few = [one for one in by_cut.values() if np.mean([len(score.others) for score in one]) <= FEW_MARKS]
    if few:
        best = max(few, key=lambda scores: (sum(sum(one.found) for one in scores), sum(one.dice for one in scores)))
        rows.append(row_of(f"{name}, at most {FEW_MARKS:g} other marks", best))
    return rows


LINE = ("bundle", "case", "background", "threshold", "peak", "nodes", "found", "dice", "other_marks")


def lines_of(bundle: str, case: InsertedCase) -> list[tuple[object, ...]]:
    return [
        (bundle, case.case, case.background, *one.cut, len(one.found), sum(one.found), round(one.dice, 4),
         len(one.others))
        for one in case.scores
    ]  # fmt: skip


def report(rows: Sequence[Sequence[str]], cases: Sequence[InsertedCase]) -> list[str]:
    """The table in Markdown, and what it means."""
    backgrounds = sorted({case.background for case in cases})
    return [
        "# Nodes inserted into real CTs", "",
        f"{len(cases)} cases, made from {', '.join(backgrounds)}. A node is found where a fifth of it is marked. Dice "
        "is that of the inserted nodes and the marks that touch one. Nobody knows all of the CTs' own nodes, so "
        "another mark may be one of them. Inserted nodes are synthetic: this says nothing about patients.", "",
        *markdown_table(COLUMNS, rows), *caption("benchmarks.inserted", None, {"lnq": __version__}),
    ]  # fmt: skip
