"""Records of cases as tests need them: one that is done, and the same with other values."""

from __future__ import annotations

import dataclasses
from typing import Any

from lnq.results.case_record import CaseRecord, Findings, ResultOptions, TruthScores, Versions

DONE_RECORD = CaseRecord(
    case="chest",
    id="1d" * 32,
    input="/archive/Doe^John/chest.mha",
    series_uid=None,
    status="done",
    mask="chest/segmentation.mha",
    warnings=("No contrast was found.",),
    versions=Versions("0.1.0", "55d9555c3babc14e", "c0ffee" * 4, "openvino", "cpu"),
    findings=Findings(3703.5, ResultOptions(), 3, "ab" * 32, (1, 2, 3)),
    seconds=7.72,
)


def changed(record: CaseRecord = DONE_RECORD, **changes: Any) -> CaseRecord:
    """A record with other values, also of what was found."""
    found = {name: changes.pop(name) for name in ("nodes", "volume_mm3", "scores") if name in changes}
    if found and record.findings is not None:
        changes["findings"] = dataclasses.replace(record.findings, **found)
    return dataclasses.replace(record, **changes)


def scored(dice: float, assd_mm: float | None) -> TruthScores:
    return TruthScores(dice, assd_mm, "cd" * 32)


def failed(case: str, error: str, status: str = "failed", seconds: float | None = 0.5) -> CaseRecord:
    return CaseRecord(case, "2e" * 32, "", None, status, error, seconds=seconds)
