"""The next series of a study, segmented where the chosen one cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lnq.archive.case import Case, Subject
from lnq.archive.discovery import Found, SetAside
from lnq.results.case_record import FAILED, SKIPPED, CaseRecord


class StandIns:
    """Series that were not chosen, each behind a better one of its study, and the failures that led to them.

    A study has one outcome: done by whichever of its series was segmented, or failed as the best one did.
    """

    def __init__(self, found: Sequence[Found]) -> None:
        self._next = {f.after: f.case for f in found if isinstance(f, SetAside) and f.after is not None}
        self._before: dict[str, list[CaseRecord]] = {}  # failures, by the name of the case that is tried after them

    def after(self, case: Subject, record: CaseRecord) -> Case | None:
        """The case to try after this outcome of `case`; None where the outcome is the study's last."""
        following = self._next.pop(case.place, None) if record.status == FAILED else None
        if not isinstance(following, Case):
            return None
        self._before[following.name] = [*self._before.pop(record.case, []), record]
        return dataclasses.replace(following, warnings=(f"It stands in for another series: {record.error}.",))

    def outcome(self, record: CaseRecord) -> list[CaseRecord]:
        """The final records of a study's series, given the last one's."""
        before = self._before.pop(record.case, [])
        if record.is_done:
            instead = f"; the series of case {record.case} was segmented instead"
            return [*(_left_out(failure, instead) for failure in before), record]
        if not before:
            return [record]
        first = before[0]
        return [first, *(_left_out(later, f"; it was to stand in for {first.case}") for later in (*before[1:], record))]


def _left_out(record: CaseRecord, why: str) -> CaseRecord:
    return dataclasses.replace(record, status=SKIPPED, error=f"{record.error}{why}")
