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
    where, series_uid = (None, None) if settings.private else (str(about.path), about.series_uid)
    return CaseRecord(about.name, about.identity, where, series_uid, FAILED, chosen=about.chosen or None)


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
    """The records of an earlier run's manifest, by case. Lines that hold no record are left out."""
    return {name: record for name, (_, record) in _lines(output).items() if record is not None}


def read_foreign_lines(output: Path) -> dict[str, str]:
    """The manifest's lines that another version wrote, by case, where that case's folder is still there."""
    lines = ((name, line) for name, (line, record) in _lines(output).items() if record is None)
    return {name: line for name, line in lines if identity_of_result(output / name) is not None}


def _lines(output: Path) -> dict[str, tuple[str, CaseRecord | None]]:
    """The last line of each case in the manifest, and its record, where it is one of this version."""
    found: dict[str, tuple[str, CaseRecord | None]] = {}
    path = output / MANIFEST
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            name = entry["case"]
        except (ValueError, TypeError, LookupError):
            continue
        try:
            record = CaseRecord.from_plain(entry)
        except (ValueError, TypeError, AttributeError):
            record = None
        if isinstance(name, str):
            found[name] = (line, record)
    return found


def identity_of_result(folder: Path) -> str | None:
    """What the finished case in a folder is known by, whatever version wrote it; None for any other folder."""
    try:
        entry = json.loads((folder / CASE_JSON).read_text())
    except (OSError, ValueError):
        return None
    is_result = isinstance(entry, dict) and entry.get("case") == folder.name
    return str(entry.get("id")) if is_result else None
