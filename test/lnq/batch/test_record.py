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
    is_result,
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
    assert is_result(tmp_path / "chest")
    (tmp_path / "chest").rename(tmp_path / "other")
    assert read_record(tmp_path, "other") is None
    assert not is_result(tmp_path / "other")


def test_a_folder_of_another_version_is_a_result_but_its_record_counts_as_none(tmp_path):
    (tmp_path / "chest").mkdir()
    (tmp_path / "chest" / CASE_JSON).write_text(json.dumps({"case": "chest", "status": "done", "colour": "red"}))
    assert is_result(tmp_path / "chest")
    assert read_record(tmp_path, "chest") is None


def test_a_manifest_is_read_as_far_as_it_holds_records(tmp_path):
    assert read_manifest(tmp_path) == {}
    again = dataclasses.replace(DONE_RECORD, seconds=9.0)
    broken = failed("broken", "It is cut.")
    lines = [DONE_RECORD.line(), "no JSON\n", "[1]\n", '{"case": "old"}\n', broken.line(), again.line(), '{"case": "a']
    (tmp_path / "manifest.jsonl").write_text("".join(lines))
    assert read_manifest(tmp_path) == {"chest": again, "broken": broken}  # the last line of a case counts
