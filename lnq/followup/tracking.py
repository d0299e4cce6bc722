"""What nodes are called from one CT to the next: a node that is found again keeps its tracking UID and identifier."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lnq.errors import ImageError, StartError
from lnq.followup.match import Match
from lnq.followup.read_objects import read_sr
from lnq.followup.time_point import TimePoint
from lnq.results.case_record import REPORT
from lnq.results.dicom_common import Maker, Track, origin_of
from lnq.results.dicom_reference import hashed_uid
from lnq.results.node_table import NodeRow, nodes_of

Tracks = Mapping[int, Track]
"""How the nodes of a CT are followed, by number."""

_OFF_MM = 2.0  # between a node's centre in its table and in a report
_NUMBER = re.compile(r"Lymph node (\d{1,9})")


def maker_of(point: TimePoint) -> Maker:
    """What made a result, as its DICOM objects name it."""
    versions = point.record.versions
    assert versions is not None  # of a case that is done
    return Maker("lnq", versions.lnq, versions.weights)


def own_tracks(point: TimePoint) -> dict[int, Track]:
    """The tracks that a CT's nodes have where no other CT is known: those of its own DICOM objects."""
    try:
        if point.slices:
            origin = origin_of(point.labels, nodes_of(point.rows), point.slices, maker_of(point))
            return {row.number: origin.track(row.number) for row in point.rows}
    except (ImageError, ValueError):  # no DICOM object can refer to this series, so none has a track of its own
        pass
    names = [(row.number, f"{point.findings.mask_sha256} {row.number}") for row in point.rows]
    return {number: Track(f"Lymph node {number}", hashed_uid("node", name)) for number, name in names}


def reported_tracks(point: TimePoint, report: Path | None) -> tuple[dict[int, Track], tuple[str, ...]]:
    """The tracks that a structured report gives to a CT's nodes, and all identifiers in it.

    A node that it does not name gets an identifier that it does not use. `report` is by default the one in the result's
    folder; without any, nodes have their own tracks. Raises StartError where it is no report, is on another CT, or
    names no node of the CT.
    """
    own = own_tracks(point)
    path = report or point.folder / REPORT
    if report is None and not path.is_file():
        return own, ()
    found = read_sr(path)
    if point.slices and str(point.slices[0].header.SeriesInstanceUID) not in found.series:
        raise StartError(f"{path} is on another series than {point.record.case}")
    centres = np.array([(row.l_mm, row.p_mm, row.s_mm) for row in point.rows]).reshape(-1, 3)
    said: dict[int, Track] = {}
    for one in found.nodes:
        if one.centre_mm is not None and len(centres):
            off_mm = np.linalg.norm(centres - one.centre_mm, axis=1)
            number = point.rows[int(off_mm.argmin())].number if off_mm.min() <= _OFF_MM else None
        else:
            number = one.segment
        if number in own:
            said.setdefault(number, one.track)
    if report is not None and own and not said:
        raise StartError(f"{report} names no node of {point.record.case}")
    used = tuple(one.track.identifier for one in found.nodes)
    following = _following(used)
    for number, track in own.items():
        if number not in said:
            said[number] = Track(f"Lymph node {following}", track.uid)
            following += 1
    return said, used


def _following(used: Iterable[str]) -> int:
    """The number after the highest one among identifiers."""
    return max((int(found[1]) for name in used if (found := _NUMBER.fullmatch(name))), default=0) + 1


def follow(
    matches: Iterable[Match],
    rows: tuple[Sequence[NodeRow], Sequence[NodeRow]],
    earlier: Tracks,
    own: Tracks,
    used: Iterable[str] = (),
) -> dict[int, Track]:
    """The later nodes' tracks. `rows` are the tables of both CTs, `own` the later nodes' tracks of their own.

    The largest of merged nodes passes its track on, and the largest part of a split one gets it. All other nodes get
    new identifiers, which are not among the earlier ones nor `used` before.
    """
    volume = [{row.number: row.volume_mm3 for row in table} for table in rows]
    following = _following((*used, *(track.identifier for track in earlier.values())))
    tracks: dict[int, Track] = {}
    for match in matches:
        by_size = sorted(match.later, key=lambda number: -volume[1][number])
        if match.earlier and by_size:
            tracks[by_size.pop(0)] = earlier[max(match.earlier, key=lambda number: volume[0][number])]
        for number in sorted(by_size):
            tracks[number] = Track(f"Lymph node {following}", own[number].uid)
            following += 1
    return tracks
