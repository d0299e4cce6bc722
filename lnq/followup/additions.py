"""What a structured report on followed nodes says beyond their measurements: what became of each since the earlier CT.

DICOM has no codes for merged, split and gone, so those of the scheme 99LNQ are this program's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydicom.sr.coding import Code

from lnq.followup.change import Change, Size
from lnq.followup.comparison import FollowUp
from lnq.plain import to_plain
from lnq.results.dicom_common import LYMPH_NODE, TISSUE, Track
from lnq.results.dicom_reference import hashed_uid
from lnq.results.write_sr import Additions

if TYPE_CHECKING:
    from highdicom import sr

_STATE = Code("change", "99LNQ", "Change since the earlier CT")
_MM = Code("mm", "UCUM", "mm")
_MM3 = Code("mm3", "UCUM", "cubic millimeter")
_BEFORE = (  # measure of Size, name, unit
    ("short_axis_mm", Code("earlier-short", "99LNQ", "Short axis in the earlier CT"), _MM),
    ("long_axis_mm", Code("earlier-long", "99LNQ", "Long axis in the earlier CT"), _MM),
    ("volume_mm3", Code("earlier-volume", "99LNQ", "Volume in the earlier CT"), _MM3),
)
_SUMS = (
    Code("sum-first", "99LNQ", "Sum of short axes of target nodes in the first CT"),
    Code("sum-now", "99LNQ", "Sum of short axes of target nodes"),
)
_TARGETS = Code("target-nodes", "99LNQ", "Target nodes as RECIST 1.1 takes them, chosen by size alone")


def additions_of(comparison: FollowUp, earlier: Mapping[str, tuple[Track, Size]]) -> Additions:
    """The additions to the report on the later CT. `earlier` are the earlier nodes, by tracking UID.

    Each node has the earlier size of its own UID. One whose UID no later node has, because it is gone or has merged
    into another, is a group without a segment.
    """
    from highdicom import sr

    of_nodes: dict[int, list[sr.Measurement | sr.QualitativeEvaluation]] = {}
    for number, track in enumerate(comparison.tracks, start=1):
        change = next(change for change in comparison.changes if number in change.later)
        of_nodes[number] = [_state(change), *_sizes(earlier.get(track.uid))]
    kept = {track.uid for track in comparison.tracks}
    groups = [
        sr.MeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(uid, track.identifier),
            finding_type=LYMPH_NODE,
            finding_category=TISSUE,
            measurements=_sizes((track, size)),
            qualitative_evaluations=[
                _state(next(change for change in comparison.changes if track.identifier in change.earlier_names))
            ],
        )
        for uid, (track, size) in earlier.items()
        if uid not in kept
    ]
    values = [comparison.sums[0].mm, comparison.sums[-1].mm] if comparison.sums else []
    measured = [sr.Measurement(name, mm, _MM) for name, mm in zip(_SUMS, values, strict=False) if mm is not None]
    if measured:
        targets = sr.TrackingIdentifier(hashed_uid("target nodes", comparison.first), "Target nodes")
        groups.append(sr.MeasurementsAndQualitativeEvaluations(targets, finding_type=_TARGETS, measurements=measured))
    content = json.dumps([to_plain(comparison.changes), to_plain(comparison.sums)])
    return Additions(of_nodes, groups, content)


def _state(change: Change) -> sr.QualitativeEvaluation:
    from highdicom import sr

    return sr.QualitativeEvaluation(_STATE, Code(change.state, "99LNQ", change.state.capitalize()))


def _sizes(before: tuple[Track, Size] | None) -> Sequence[sr.Measurement]:
    from highdicom import sr

    if before is None:
        return []
    return [sr.Measurement(name, getattr(before[1], measure), unit) for measure, name, unit in _BEFORE]
