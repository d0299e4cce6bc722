import errno
import hashlib
import os
import signal
from pathlib import Path

import pytest

from lnq.errors import StartError
from lnq.files import (
    file_sha256,
    prepare_output,
    replace_atomically,
    replace_files,
    replace_folder,
    unwritten,
    write_text,
)
from lnq.signals import signals_go_to


def test_a_file_is_replaced_at_once(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replace_atomically(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.suffix == ".csv"  # writers choose a format by it
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half-way"), replace_atomically(path) as part:
        part.write_text("ne")
        raise RuntimeError("half-way")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_is_that_of_the_bytes(tmp_path):
    write_text(tmp_path / "a", "abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_an_output_folder_is_made_and_left_empty(tmp_path):
    prepare_output(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(StartError, match=f"^The output folder {tmp_path / 'out'} cannot be written: File exists$"):
        prepare_output(tmp_path / "out")


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "a.txt").write_text(text)
    return path


def test_a_folder_takes_the_place_of_an_earlier_one(tmp_path):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    replace_folder(new, target, tmp_path / "aside")
    assert (target / "a.txt").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize(("broken", "kept"), [({1}, "target"), ({2}, "target"), ({2, 3}, "aside")])
def test_an_earlier_folder_is_never_lost(tmp_path, monkeypatch, broken, kept):
    """The first rename puts it aside, the second brings the new one, the third puts it back."""
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    rename, calls = os.rename, []

    def fail(*paths: Path) -> None:
        calls.append(paths)
        if len(calls) in broken:
            raise OSError(errno.EIO, "Input/output error")
        rename(*paths)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        replace_folder(new, target, tmp_path / "aside")
    assert (tmp_path / kept / "a.txt").read_text() == "old"
    assert (new / "a.txt").read_text() == "new"


@pytest.mark.parametrize("broken", range(1, 5))
def test_files_are_moved_all_or_none(tmp_path, monkeypatch, broken):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    (new / "b.txt").write_text("new")
    (target / "b.txt").write_text("old")
    rename, calls = os.rename, []

    def fail(*paths: Path) -> None:
        calls.append(paths)
        if len(calls) == broken:
            raise OSError(errno.EIO, "Input/output error")
        rename(*paths)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        replace_files(new, target, ("a.txt", "b.txt"))
    assert {p.name: p.read_text() for p in target.iterdir()} == {"a.txt": "old", "b.txt": "old"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "target"]


class Told(BaseException):
    """A signal came."""


def stop(*_):
    raise Told


@pytest.fixture
def signal_after_each_rename(monkeypatch):
    """As if it were sent at that moment."""
    rename = os.rename

    def then_signal(*paths: Path) -> None:
        rename(*paths)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(os, "rename", then_signal)
    with signals_go_to(stop):
        yield


def test_a_signal_between_two_files_waits_until_all_are_moved(tmp_path, signal_after_each_rename):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    (new / "b.txt").write_text("new")
    (target / "b.txt").write_text("old")
    with pytest.raises(Told):
        replace_files(new, target, ("a.txt", "b.txt"))
    assert {p.name: p.read_text() for p in target.iterdir()} == {"a.txt": "new", "b.txt": "new"}


def test_a_signal_waits_until_a_folder_has_its_place(tmp_path, signal_after_each_rename):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    with pytest.raises(Told):
        replace_folder(new, target, tmp_path / "aside")
    assert (target / "a.txt").read_text() == "new"


def test_a_file_that_is_missing_moves_none(tmp_path):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    with pytest.raises(FileNotFoundError):
        replace_files(new, target, ("a.txt", "b.txt"))
    assert (target / "a.txt").read_text() == "old"


def test_files_that_are_moved_leave_the_others(tmp_path):
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    (target / "kept.txt").write_text("kept")
    replace_files(new, target, ("a.txt",))
    assert {p.name: p.read_text() for p in target.iterdir()} == {"a.txt": "new", "kept.txt": "kept"}


def test_a_library_that_wrote_nothing_is_explained_by_the_disk(tmp_path, monkeypatch):
    assert unwritten(tmp_path / "a").errno == errno.EIO
    monkeypatch.setattr("lnq.files._LEAST_FREE", 2**60)
    assert unwritten(tmp_path / "a").errno == errno.ENOSPC
    assert unwritten(tmp_path / "none" / "a").errno == errno.EIO
