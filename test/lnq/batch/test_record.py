"""Records of failures, and those that earlier runs have left."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.records import DONE_RECORD, failed

from lnq.archive.case import ImageFile
from lnq.batch.record import (
    CASE_JSON,
    identity_of_result,
    read_foreign_lines,
    read_manifest,
    read_record,
    record_of_failure,
    write_record,
)
from lnq.batch.settings import WorkerSettings
from lnq.errors import Message

CASE = ImageFile("ct", Path("/in/Doe/ct.mha"))


@pytest.mark.parametrize(
    ("private", "where", "error"),
    [
        (False, "/in/Doe/ct.mha", "ct.mha is damaged: Doe.raw is missing"),
        (True, None, "ct is damaged: (not shown) is missing"),
    ],
)
def test_names_are_shown_where_they_are_not_private(private, where, error):
    settings = WorkerSettings("/out", "/model", private=private)
    reason = Message("{subject} is damaged: {file} is missing", subject="ct.mha", file="Doe.raw")
    record = record_of_failure(CASE, settings, reason, 1.5, status="skipped")
    assert (record.case, record.input, record.error, record.status) == ("ct", where, error, "skipped")
    assert (record.id, record.seconds, record.findings) == (CASE.identity, 1.5, None)


def test_a_record_lies_in_its_cases_folder(tmp_path):
    (tmp_path / "chest").mkdir()
    assert read_record(tmp_path, "chest") is None
    write_record(tmp_path / "chest", DONE_RECORD)
    assert read_record(tmp_path, "chest") == DONE_RECORD
    assert identity_of_result(tmp_path / "chest") == DONE_RECORD.id
    (tmp_path / "chest").rename(tmp_path / "other")
    assert read_record(tmp_path, "other") is None
    assert identity_of_result(tmp_path / "other") is None


def test_a_result_of_another_version_is_told_by_its_identity_and_its_line_is_kept(tmp_path):
    entry = json.dumps({"case": "chest", "id": "3f", "status": "done", "colour": "red"})
    for name in ("chest", "gone"):
        line = entry.replace("chest", name)
        (tmp_path / "manifest.jsonl").open("a").write(line + "\n")
    (tmp_path / "chest").mkdir()
    (tmp_path / "chest" / CASE_JSON).write_text(entry)
    assert identity_of_result(tmp_path / "chest") == "3f"
    assert read_record(tmp_path, "chest") is None
    assert read_manifest(tmp_path) == {}
    assert read_foreign_lines(tmp_path) == {"chest": entry}


def test_a_manifest_is_read_as_far_as_it_holds_records(tmp_path):
    assert read_manifest(tmp_path) == {}
    again = dataclasses.replace(DONE_RECORD, seconds=9.0)
    broken = failed("broken", "It is cut.")
    lines = [DONE_RECORD.line(), "no JSON\n", "[1]\n", '{"case": "old"}\n', broken.line(), again.line(), '{"case": "a']
    (tmp_path / "manifest.jsonl").write_text("".join(lines))
    assert read_manifest(tmp_path) == {"chest": again, "broken": broken}  # the last line of a case counts
