"""Make, write and read records of cases: in the manifest, and the same record in each case's folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lnq.archive.case import Subject
from lnq.batch.settings import WorkerSettings
from lnq.errors import Message
from lnq.files import write_text
from lnq.results.case_record import FAILED, CaseRecord, Versions

MANIFEST = "manifest.jsonl"
CASE_JSON = "case.json"  # file with a finished case's record; a folder that has it is a result


def record_of_failure(
    about: Subject,
    settings: WorkerSettings,
    reason: Message,
    seconds: float | None = None,
    versions: Versions | None = None,
    status: str = FAILED,
) -> CaseRecord:
    """The record of a subject without a result. `reason` is a whole sentence."""
    record = blank_record(about, settings)
    error = settings.said(reason, about)
    return dataclasses.replace(record, status=status, error=error, seconds=seconds, versions=versions)


def blank_record(about: Subject, settings: WorkerSettings) -> CaseRecord:
    """The record of a subject before any work: status FAILED, without an error."""
    where = None if settings.private else str(about.path)
    return CaseRecord(about.name, about.identity, where, about.series_uid, FAILED)


def write_record(folder: Path, record: CaseRecord) -> None:
    """Write a record into a finished case's folder. Raises OSError where it cannot be written."""
    write_text(folder / CASE_JSON, json.dumps(record.plain(), indent=1) + "\n")


def read_record(output: Path, case: str) -> CaseRecord | None:
    """The record in a finished case's folder; None where there is none of this case and version."""
    try:
        record = CaseRecord.from_plain(json.loads((output / case / CASE_JSON).read_text()))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return record if record.case == case else None


def read_manifest(output: Path) -> dict[str, CaseRecord]:
    """An earlier run's records by case. Lines that hold no valid record are left out."""
    records: dict[str, CaseRecord] = {}
    path = output / MANIFEST
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            record = CaseRecord.from_plain(json.loads(line))
        except (ValueError, TypeError, AttributeError):
            continue
        records[record.case] = record
    return records


def is_result(folder: Path) -> bool:
    """Whether a folder holds a finished case, of this version or another."""
    try:
        entry = json.loads((folder / CASE_JSON).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(entry, dict) and entry.get("case") == folder.name
