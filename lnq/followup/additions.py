"""What a structured report on followed nodes says beyond their measurements: what became of each since the earlier CT.

DICOM has no codes for it, so those of the scheme 99LNQ are this program's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydicom.sr.coding import Code

from lnq.followup.change import Change
from lnq.followup.comparison import FollowUp
from lnq.plain import to_plain
from lnq.results.dicom_common import LYMPH_NODE, TISSUE, Maker
from lnq.results.dicom_reference import hashed_uid
from lnq.results.write_sr import Additions

if TYPE_CHECKING:
    from highdicom import sr

_STATE = Code("change", "99LNQ", "Change since the earlier CT")
_MM = Code("mm", "UCUM", "mm")
_MM3 = Code("mm3", "UCUM", "cubic millimeter")
_BEFORE = (  # measure of Size, name, unit
    ("short_axis_mm", Code("short-axis-earlier", "99LNQ", "Short axis in the earlier CT"), _MM),
    ("long_axis_mm", Code("long-axis-earlier", "99LNQ", "Long axis in the earlier CT"), _MM),
    ("volume_mm3", Code("volume-earlier", "99LNQ", "Volume in the earlier CT"), _MM3),
)
_SUMS = (
    Code("sum-short-axes-first", "99LNQ", "Sum of short axes of target nodes in the first CT"),
    Code("sum-short-axes", "99LNQ", "Sum of short axes of target nodes"),
)
_TARGETS = Code("target-nodes", "99LNQ", "Target nodes as RECIST 1.1 takes them, chosen by size alone")


def additions_of(comparison: FollowUp, maker: Maker) -> Additions:
    """The additions to the report on the later CT."""
    from highdicom import sr

    of_nodes: dict[int, list[sr.Measurement | sr.QualitativeEvaluation]] = {
        number: [_state(change), *_sizes_before(change)] for change in comparison.changes for number in change.later
    }
    groups = [
        sr.MeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(change.uid, change.identifier),
            finding_type=LYMPH_NODE,
            finding_category=TISSUE,
            measurements=_sizes_before(change),
            qualitative_evaluations=[_state(change)],
        )
        for change in comparison.changes
        if not change.later
    ]
    if comparison.sums:
        values = (comparison.sums[0].mm, comparison.sums[-1].mm)
        uid = hashed_uid("target nodes", maker.weights_sha256, comparison.earlier.mask_sha256, *comparison.targets)
        groups.append(
            sr.MeasurementsAndQualitativeEvaluations(
                sr.TrackingIdentifier(uid, "Target nodes"),
                finding_type=_TARGETS,
                measurements=[sr.Measurement(name, mm, _MM) for name, mm in zip(_SUMS, values, strict=True)],
            )
        )
    content = json.dumps([to_plain(comparison.changes), to_plain(comparison.sums)])
    return Additions(of_nodes, groups, content)


def _state(change: Change) -> sr.QualitativeEvaluation:
    from highdicom import sr

    return sr.QualitativeEvaluation(_STATE, Code(change.state, "99LNQ", change.state.capitalize()))


def _sizes_before(change: Change) -> Sequence[sr.Measurement]:
    from highdicom import sr

    if change.before is None:
        return []
    return [sr.Measurement(name, getattr(change.before, measure), unit) for measure, name, unit in _BEFORE]
