"""How often `lnq compare` tells rightly which node became which, on pairs of phantoms with a known history.

    python -m benchmarks.followup -o OUT --count 40 --first-seed 7100 --model model

Asked for are the true masks, and with --model those that the network finds. A node of either CT counts where its short
axis is at least 8 mm. It is told rightly where all its partners are named and no other. Of the network's masks, a
component stands for the true nodes that it covers, and does not count where it covers none. Writes followup.md and
followup.csv, with a line per node.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.progress import track

from benchmarks.machine import caption
from benchmarks.output import markdown_table, write_csv
from lnq.files import write_text
from lnq.followup.match import aligned_places, match_nodes, places_of
from lnq.followup.register import Alignment, align, chest_of
from lnq.image import components
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.inference.backends import Model, load_model
from lnq.nodes.measure import axes_mm
from lnq.nodes.metrics import FOUND_FRACTION
from lnq.pipeline import segment
from lnq.version import __version__
from phantom.follow_up import Visit, make_follow_up
from training.command import plain_console, run_over_cases

LEAST_MM = 8.0
KINDS = ("same", "merged or split", "new", "gone")


@dataclass(frozen=True)
class ToldFate:
    """One node of one CT, and what was said of it."""

    seed: int
    masks: str  # "true" or "found"
    later: bool  # whether it is in the later CT
    short_axis_mm: float
    kind: str  # one of KINDS
    right: bool


@dataclass(frozen=True)
class FollowUps:
    """Measure which node is which on phantoms with a known history."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    count: int = 40
    first_seed: int = 7100
    size: int = 256  # pixels of a side
    model: Path | None = None  # a bundle, whose masks are asked for as well


def numbered(mask: Volume) -> Volume:
    """A mask's components in LPS axes."""
    lps, _ = reorient_to_lps(mask)
    labels, _ = components.label(lps.array > 0)
    return lps.with_array(labels)


def identities(labels: Volume, truth: Volume) -> dict[int, set[int]]:
    """The true nodes that each component covers, by a fifth or more of a node's voxels."""
    nodes = reorient_to_lps(truth)[0].array
    voxels = np.bincount(nodes.ravel())
    covered: dict[int, set[int]] = {}
    for number in range(1, int(labels.array.max()) + 1):
        inside = np.bincount(nodes[labels.array == number], minlength=len(voxels))
        covered[number] = {n for n in range(1, len(voxels)) if inside[n] and inside[n] >= FOUND_FRACTION * voxels[n]}
    return covered


def judge(
    seed: int,
    masks: str,
    labels: tuple[Volume, Volume],
    truths: tuple[Volume, Volume],
    alignment: Alignment,
) -> list[ToldFate]:
    """What was said of the nodes of two CTs, whose components are `labels`."""
    matches = match_nodes(aligned_places(labels[0], alignment), places_of(labels[1]))
    covered = [identities(own, truth) for own, truth in zip(labels, truths, strict=True)]
    true = {(i, j) for i, own in covered[0].items() for j, other in covered[1].items() if own & other}
    said = {(i, j) for match in matches for i in match.earlier for j in match.later}
    told = []
    for side in (0, 1):
        for number, own in covered[side].items():
            short_mm, _ = axes_mm(labels[side].array == number, labels[side].spacing_mm)
            if not own or short_mm < LEAST_MM:
                continue
            wanted = {link for link in true if link[side] == number}
            kind = _kind(wanted, true, side)
            right = {link for link in said if link[side] == number} == wanted
            told.append(ToldFate(seed, masks, bool(side), round(short_mm, 1), kind, right))
    return told


def _kind(wanted: set[tuple[int, int]], true: set[tuple[int, int]], side: int) -> str:
    if not wanted:
        return ("gone", "new")[side]
    partners = {link[1 - side] for link in wanted}
    alone = len(wanted) == 1 and len({link for link in true if link[1 - side] in partners}) == 1
    return "same" if alone else "merged or split"


def told_of(seed: int, size: int, model: Model | None) -> list[ToldFate]:
    """What is said of the nodes of one pair of phantoms."""
    visits = make_follow_up(seed, size=size)
    first, second = (chest_of(visit.ct, visit.phase) for visit in visits)
    alignment = align(first, second)
    truths = visits[0].nodes, visits[1].nodes
    told = judge(seed, "true", (numbered(truths[0]), numbered(truths[1])), truths, alignment)
    if model is not None:
        found = [numbered(_mask(visit, model)) for visit in visits]
        told += judge(seed, "found", (found[0], found[1]), truths, alignment)
    return told


def _mask(visit: Visit, model: Model) -> Volume:
    return segment(visit.ct, model).mask


def lines_of(told: Sequence[ToldFate]) -> list[str]:
    """The table in Markdown."""
    rows = []
    for kind in (*KINDS, "all"):
        cells = [kind]
        for masks in ("true", "found"):
            own = [one for one in told if one.masks == masks and kind in (one.kind, "all")]
            right = sum(one.right for one in own)
            cells.append(f"{right} of {len(own)} ({100 * right / len(own):.1f} %)" if own else "")
        rows.append(cells)
    return markdown_table(("nodes of 8 mm and more", "true masks", "the network's masks"), rows)


def measure_follow_ups(command: FollowUps) -> bool:
    """Run the command. Raises ValueError for a count that is not positive."""
    if command.count < 1:
        raise ValueError(f"--count must be at least 1, not {command.count}")
    command.output.mkdir(parents=True, exist_ok=True)
    model = None if command.model is None else load_model(command.model)
    seeds = range(command.first_seed, command.first_seed + command.count)
    told = [
        one for seed in track(seeds, "Looking", console=plain_console()) for one in told_of(seed, command.size, model)
    ]
    head = [
        "# Which node became which, in phantoms", "",
        f"{command.count} pairs of phantoms, seeds {seeds[0]} to {seeds[-1]}. Phantoms are synthetic: this says "
        "nothing about patients.", "",
    ]  # fmt: skip
    text = [*head, *lines_of(told), *caption("benchmarks.followup", None, {"lnq": __version__})]
    write_text(command.output / "followup.md", "\n".join(text))
    columns = tuple(field.name for field in dataclasses.fields(ToldFate))
    write_csv(command.output / "followup.csv", columns, [dataclasses.astuple(one) for one in told])
    print("\n".join(text))
    return True


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(FollowUps, args=arguments, prog="python -m benchmarks.followup")
    return run_over_cases(lambda: measure_follow_ups(command))


if __name__ == "__main__":
    sys.exit(main())
