"""Notes of the spool: what is damaged is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnq.pacs.entry import EndedStudy, Entry, ObjectName, StudyOutcome, read_note, which_of


@pytest.mark.parametrize(
    "text", ["", "[1", "[]", "3", "null", '{"files": 3}', '{"files": [3]}', '{"other": []}', "[" * 9000]
)
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    entry = Entry(tmp_path)
    for name in ("result.json", "sent.json", "refused.json"):
        (tmp_path / name).write_text(text)
    assert entry.outcome() is None and read_note(tmp_path / "result.json", EndedStudy) is None
    entry.sent()
    entry.refused()


def test_a_name_tells_which_object_it_is() -> None:
    name = ObjectName("a" * 32, "b" * 32)
    assert which_of(Path(name.file).stem) == "a" * 32


def test_notes_are_read_as_they_were_written(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "1-x")
    entry.folder.mkdir()
    entry.note_outcome(StudyOutcome(("a",), ("b",), 3))
    assert entry.outcome() == StudyOutcome(("a",), ("b",), 3) and entry.study == "x"
