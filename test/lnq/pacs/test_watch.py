"""Studies from a folder: copied once they stay the same, once, and the folder is left as it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pynetdicom")

from helpers.dicom_slices import slice_dataset

from lnq.pacs.receive import Receiver
from lnq.pacs.spool import Spool
from lnq.pacs.watch import Watcher


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    spool = Spool(tmp_path / "spool", least_free_gb=0.0)
    spool.make()
    (tmp_path / "in").mkdir()
    return Watcher(tmp_path / "in", Receiver(spool, "k"), 10.0)


def write(path: Path, uid: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    one = slice_dataset(np.zeros((4, 4), np.uint16), (0, 0, 0), SOPInstanceUID=uid)
    one.save_as(path, enforce_file_format=True)
    return path


def taken(watcher: Watcher) -> int:
    return len(list((watcher.receiver.spool.folder / "arriving").glob("*/*.dcm")))


def test_a_file_is_copied_once_it_stays_the_same(watcher):
    path = write(watcher.folder / "a" / "1.dcm", "1.2.1")
    before = path.read_bytes()
    assert [watcher.look(now) for now in (0.0, 9.0, 10.0, 30.0)] == [0, 0, 1, 0]
    assert taken(watcher) == 1 and path.read_bytes() == before


def test_a_file_that_grows_waits(watcher):
    path = write(watcher.folder / "1.dcm", "1.2.1")
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    assert watcher.look(0.0) == 0
    path.write_bytes(whole)
    assert [watcher.look(now) for now in (9.0, 12.0, 19.0)] == [0, 0, 1]


def test_a_clock_that_is_wrong_does_no_harm(watcher):
    path = write(watcher.folder / "1.dcm", "1.2.1")
    os.utime(path, (4e9, 4e9))  # in the year 2096
    assert [watcher.look(now) for now in (0.0, 10.0)] == [0, 1]


def test_after_a_restart_only_what_changed_is_copied(watcher):
    paths = [write(watcher.folder / f"{n}.dcm", f"1.2.{n}") for n in (1, 2)]
    watcher.look(0.0)
    assert watcher.look(10.0) == 2
    again = Watcher(watcher.folder, watcher.receiver, 10.0)
    write(paths[0], "1.2.9")
    assert [again.look(now) for now in (0.0, 10.0)] == [0, 1] and taken(again) == 3


def test_a_file_that_cannot_be_read_is_tried_again_and_stops_no_other(watcher, monkeypatch, caplog):
    for number in (1, 2):
        write(watcher.folder / f"{number}.dcm", f"1.2.{number}")
    real = Path.read_bytes

    def failing(path):
        if path.name == "1.dcm":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        assert [watcher.look(now) for now in (0.0, 10.0, 20.0)] == [0, 1, 0]
    assert watcher.look(30.0) == 1 and taken(watcher) == 2
    assert caplog.messages == ["A file in the watched folder cannot be read, and is tried again: Input/output error"]


def test_a_damaged_file_is_said_and_stops_no_other(watcher, caplog):
    path = write(watcher.folder / "1.dcm", "1.2.1")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00UL"))
    (watcher.folder / "2.dcm").write_bytes(data[:140])
    write(watcher.folder / "3.dcm", "1.2.3")
    assert [watcher.look(now) for now in (0.0, 10.0)] == [0, 3] and taken(watcher) == 1
    assert "A DICOM file in the watched folder cannot be read, and is left out" in caplog.messages


def test_what_is_no_dicom_or_hidden_is_left_alone(watcher):
    (watcher.folder / "note.txt").write_text("no DICOM")
    write(watcher.folder / ".part", "1.2.1")
    watcher.look(0.0)
    watcher.look(10.0)
    assert taken(watcher) == 0


def test_on_a_full_disk_a_file_waits_for_room(watcher):
    write(watcher.folder / "1.dcm", "1.2.1")
    watcher.receiver.spool.least_free_gb = 1e9
    assert watcher.look(0.0) == 0 and watcher.look(10.0) == 0
    watcher.receiver.spool.least_free_gb = 0.0
    assert watcher.look(20.0) == 1 and taken(watcher) == 1


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": ["x"]}'])
def test_a_damaged_list_is_made_again(watcher, text):
    write(watcher.folder / "1.dcm", "1.2.1")
    (watcher.receiver.spool.folder / "watched.json").write_text(text)
    again = Watcher(watcher.folder, watcher.receiver, 10.0)
    again.look(0.0)
    assert again.look(10.0) == 1


def test_the_same_object_over_the_network_is_the_same(watcher):
    path = write(watcher.folder / "1.dcm", "1.2.1")
    data = path.read_bytes()
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    one = dcmread(path)
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, one)  # what C-STORE carries: the data set without the file's head
    watcher.receiver.take(data, stream.getvalue())
    watcher.look(0.0)
    assert watcher.look(10.0) == 1 and taken(watcher) == 1
