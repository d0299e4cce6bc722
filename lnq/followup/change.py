"""How each node has changed from one CT to the next, and the sum of short axes as RECIST 1.1 takes it.

Eisenhauer et al., Eur J Cancer 2009;45:228-247. That lymph nodes count as one organ is how the RECIST working group
answers the question (Schwartz et al., Eur J Cancer 2016;62:132-137).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lnq.followup.match import Match, State
from lnq.followup.tracking import Tracks
from lnq.nodes.measure import SHORT_AXES_MM
from lnq.results.node_table import NodeRow

MOST_TARGETS = 2  # of one organ


@dataclass(frozen=True)
class Size:
    """The size of one node, or of the parts of one: axes of the largest part, and the volume of all."""

    short_axis_mm: float
    long_axis_mm: float
    volume_mm3: float

    @staticmethod
    def of_one(row: NodeRow) -> Size:
        """The size of one node."""
        return Size(row.short_axis_mm, row.long_axis_mm, row.volume_mm3)

    @staticmethod
    def of(rows: Sequence[NodeRow]) -> Size | None:
        """The size of these nodes together; None where there are none."""
        if not rows:
            return None
        largest = max(rows, key=lambda row: row.volume_mm3)
        volume = round(sum(row.volume_mm3 for row in rows), 1)
        return Size(largest.short_axis_mm, largest.long_axis_mm, volume)


@dataclass(frozen=True)
class Change:
    """What became of one node, or of nodes that merged or were split."""

    identifier: str  # of the largest later node, or of the largest earlier one that is gone
    uid: str  # its tracking UID
    state: State
    earlier: tuple[int, ...]  # numbers in the earlier CT
    later: tuple[int, ...]  # numbers in the later CT
    earlier_names: tuple[str, ...]  # the identifiers of these nodes
    later_names: tuple[str, ...]
    station: str | None  # in the later CT, of a node that is gone in the earlier one
    is_target: bool
    before: Size | None
    after: Size | None

    def difference(self, measure: str) -> tuple[float, float | None] | None:
        """Change of a measure of `Size`, and in percent, both rounded to one decimal.

        None where the node is in one CT alone. The percentage is None where the measure was 0.
        """
        if self.before is None or self.after is None:
            return None
        return difference(getattr(self.before, measure), getattr(self.after, measure))


def difference(before: float, after: float) -> tuple[float, float | None]:
    """A change, and in percent, both rounded to one decimal. The percentage is None where there was nothing."""
    percent = round(100 * (after / before - 1), 1) + 0.0 if before else None
    return round(after - before, 1) + 0.0, percent


def changes_of(
    matches: Sequence[Match],
    rows: tuple[Sequence[NodeRow], Sequence[NodeRow]],
    tracks: tuple[Tracks, Tracks],
    targets: Collection[str],
) -> list[Change]:
    """What became of each node. `rows` and `tracks` are those of both CTs, `targets` the target nodes' UIDs."""
    found = []
    by_number = [{row.number: row for row in table} for table in rows]
    for match in matches:
        own = [
            sorted((table[number] for number in numbers), key=lambda row: -row.volume_mm3)
            for table, numbers in zip(by_number, (match.earlier, match.later), strict=True)
        ]
        track = tracks[1][own[1][0].number] if own[1] else tracks[0][own[0][0].number]
        found.append(
            Change(
                identifier=track.identifier,
                uid=track.uid,
                state=match.state,
                earlier=match.earlier,
                later=match.later,
                earlier_names=tuple(tracks[0][number].identifier for number in match.earlier),
                later_names=tuple(tracks[1][number].identifier for number in match.later),
                station=(own[1] or own[0])[0].station,
                is_target=any(tracks[0][number].uid in targets for number in match.earlier),
                before=Size.of(own[0]),
                after=Size.of(own[1]),
            )
        )
    return found


def choose_targets(rows: Sequence[NodeRow], tracks: Tracks) -> tuple[str, ...]:
    """The UIDs of up to two target nodes: those with the largest short axes, from 15 mm."""
    large = [row for row in rows if row.short_axis_mm >= SHORT_AXES_MM[1]]
    large.sort(key=lambda row: (-row.short_axis_mm, row.number))
    return tuple(tracks[row.number].uid for row in large[:MOST_TARGETS])


def pass_on(changes: Sequence[Change], later: Tracks) -> tuple[str, ...]:
    """The UIDs of the later nodes that the target nodes became."""
    return tuple(later[number].uid for change in changes if change.is_target for number in change.later)


def sum_after_mm(changes: Sequence[Change], rows: Sequence[NodeRow], tracks: Tracks) -> float | None:
    """The sum over the later CT's target nodes, in mm; None where one lies beyond what it shows."""
    if any(change.is_target and change.state == "outside" for change in changes):
        return None
    return sum_of_short_axes_mm(rows, tracks, pass_on(changes, tracks))


def sum_of_short_axes_mm(rows: Sequence[NodeRow], tracks: Tracks, targets: Collection[str]) -> float:
    """The sum over a CT's target nodes, in mm: one that is gone counts 0, merged ones once, and each part of a split
    one by itself."""
    return round(sum(row.short_axis_mm for row in rows if tracks[row.number].uid in targets), 1)
