"""Studies from a folder: copied once they stay the same, once, and the folder is left as it is."""

from __future__ import annotations

import time
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
    before, now = path.read_bytes(), time.time()
    assert watcher.look(now + 60) == 0  # seen for the first time
    assert watcher.look(now + 5) == 0  # it changed less than ten seconds ago
    assert watcher.look(now + 60) == 1 and taken(watcher) == 1
    assert watcher.look(now + 61) == 0 and path.read_bytes() == before


def test_a_file_that_grows_waits(watcher):
    path = write(watcher.folder / "1.dcm", "1.2.1")
    whole, now = path.read_bytes(), time.time()
    path.write_bytes(whole[:200])
    assert watcher.look(now + 60) == 0
    path.write_bytes(whole)
    assert watcher.look(now + 60) == 0 and watcher.look(now + 60) == 1


def test_after_a_restart_only_what_changed_is_copied(watcher):
    paths = [write(watcher.folder / f"{n}.dcm", f"1.2.{n}") for n in (1, 2)]
    now = time.time()
    watcher.look(now + 60)
    assert watcher.look(now + 60) == 2
    again = Watcher(watcher.folder, watcher.receiver, 10.0)
    write(paths[0], "1.2.9")
    assert again.look(now + 60) == 0 and again.look(now + 120) == 1 and taken(again) == 3


def test_what_is_no_dicom_or_hidden_is_left_alone(watcher):
    (watcher.folder / "note.txt").write_text("no DICOM")
    write(watcher.folder / ".part", "1.2.1")
    now = time.time()
    watcher.look(now + 60)
    watcher.look(now + 60)
    assert taken(watcher) == 0


def test_on_a_full_disk_a_file_waits_for_room(watcher):
    write(watcher.folder / "1.dcm", "1.2.1")
    now = time.time()
    watcher.receiver.spool.least_free_gb = 1e9
    assert watcher.look(now + 60) == 0 and watcher.look(now + 60) == 0
    watcher.receiver.spool.least_free_gb = 0.0
    assert watcher.look(now + 60) == 1 and taken(watcher) == 1


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": ["x"]}'])
def test_a_damaged_list_is_made_again(watcher, text):
    write(watcher.folder / "1.dcm", "1.2.1")
    (watcher.receiver.spool.folder / "watched.json").write_text(text)
    again = Watcher(watcher.folder, watcher.receiver, 10.0)
    now = time.time()
    again.look(now + 60)
    assert again.look(now + 60) == 1


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
    now = time.time()
    watcher.look(now + 60)
    assert watcher.look(now + 60) == 1 and taken(watcher) == 1
