"""Records of cases made, written and read: the manifest, and the same in each case's folder."""

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
CASE_JSON = "case.json"  # a finished case's line of the manifest; a folder with it is a result


def record_of_failure(
    about: Subject,
    settings: WorkerSettings,
    reason: Message,
    seconds: float | None = None,
    versions: Versions | None = None,
    status: str = FAILED,
) -> CaseRecord:
    """The record of what has no result, for a reason that is a whole sentence."""
    record = blank_record(about, settings)
    error = settings.said(reason, about)
    return dataclasses.replace(record, status=status, error=error, seconds=seconds, versions=versions)


def blank_record(about: Subject, settings: WorkerSettings) -> CaseRecord:
    """What is known before anything is done."""
    where = None if settings.private else str(about.path)
    return CaseRecord(about.name, about.identity, where, about.series_uid, FAILED)


def write_record(folder: Path, record: CaseRecord) -> None:
    """Into a finished case's folder."""
    write_text(folder / CASE_JSON, json.dumps(record.plain(), indent=1) + "\n")


def read_record(output: Path, case: str) -> CaseRecord | None:
    """The record in a finished case's folder; None where there is none."""
    try:
        record = CaseRecord.from_plain(json.loads((output / case / CASE_JSON).read_text()))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return record if record.case == case else None


def read_manifest(output: Path) -> dict[str, CaseRecord]:
    """An earlier run's records by case; what is no record is left out."""
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
    """Whether a folder is a finished case's, of this version or another."""
    try:
        entry = json.loads((folder / CASE_JSON).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(entry, dict) and entry.get("case") == folder.name
