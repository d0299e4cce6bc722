"""The owner's key: made once, read by the owner alone, and never among the results."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import pytest

from lnq.archive.case import DicomSeries, ImageFile
from lnq.batch.key import default_key_file, list_cases, read_key
from lnq.errors import StartError


def test_a_key_is_made_once_and_its_owner_alone_can_read_it(tmp_path):
    path = tmp_path / "config" / "key"
    first = read_key(path, tmp_path / "out")
    assert len(bytes.fromhex(first)) == 32
    assert read_key(path, tmp_path / "out") == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(tmp_path / "other", tmp_path / "out") != first


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("abc", 0o600, "must hold 64 hex digits and nothing else"),
        ("ab" * 32, 0o644, "can be read by others: chmod 600 it"),
        ("\u00fc", 0o600, "cannot be read"),
    ],
)
def test_a_key_that_is_none_is_refused(tmp_path, text, mode, problem):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(StartError, match=f"^The key .*key {problem}"):
        read_key(path, tmp_path / "out")


def test_a_key_among_the_results_would_tell_everyone(tmp_path):
    with pytest.raises(StartError, match="must not lie in the output folder"):
        read_key(tmp_path / "out" / "key", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_key_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="cannot be made: Not a directory"):
        read_key(tmp_path / "file" / "sub" / "key", tmp_path / "out")


def test_the_key_lies_where_the_users_settings_do(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_key_file() == tmp_path / "lnq" / "key"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_key_file() == Path("/home/someone/.config/lnq/key")


def test_the_owner_can_look_up_which_case_is_which(tmp_path):
    key = tmp_path / "key"
    list_cases(key, [DicomSeries("a1", Path("/in/Smith"), (), "1.2.3")])
    path = list_cases(key, [ImageFile("b2", Path("/in/Jo\udcff.mha")), DicomSeries("a1", Path("/moved"), (), "1.2.3")])
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [("a1", "1.2.3", "/moved"), ("b2", "", "/in/Jo\udcff.mha")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
