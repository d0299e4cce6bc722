"""The node's queue on disk, from which it goes on after any end: what was acknowledged is here, and is done once.

    arriving/STUDY/OBJECT.dcm        a study that is still coming in; .owed-OBJECT, what was not acknowledged
    queue/TIME-STUDY/objects/        a complete one, in the order of arrival
    queue/TIME-STUDY/result/         what segmenting it leaves, and result.json once that has ended
    queue/TIME-STUDY/sent.json       where its results have arrived; refused.json, where they never will
    kept/STUDY/                      the objects of a study that has ended, for those that come late
    done/STUDY.json, failed/STUDY.json
    removed/                         what is being removed

STUDY and OBJECT are digests, which name nobody. A folder changes its place by one rename.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lnq.errors import StartError
from lnq.files import flush, replace_atomically, write_text
from lnq.pacs.entry import EndedStudy, Entry, ObjectName, StudyOutcome, read_note, which_of
from lnq.plain import to_plain
from lnq.signals import signals_held

ARRIVING, QUEUE, KEPT, REMOVED = "arriving", "queue", "kept", "removed"
DONE_STUDIES, FAILED_STUDIES = "done", "failed"
_FOLDERS = (ARRIVING, QUEUE, KEPT, REMOVED, DONE_STUDIES, FAILED_STUDIES)
_OWED = ".owed-"
_NOT_ALL_CAME = "Objects of it were offered when there was no room for them, and never came again: send it again"
_TOO_LATE = "Some objects came late, and the earlier ones are kept no longer: send the whole study again"
_GB = 1e9

logger = logging.getLogger(__name__)


@dataclass
class Spool:
    """The queue. Methods may be called from any thread of the one process that holds the folder."""

    folder: Path
    least_free_gb: float = 5.0  # with less room on the disk nothing is taken
    keep_hours: float = 24.0  # how long the objects of a done study wait for those that come late
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _last: dict[str, float] = field(default_factory=dict)  # when a study's last object came, in monotonic seconds

    def make(self) -> None:
        """Make the folders, for their owner alone. Raises StartError where that fails."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in _FOLDERS:
                (self.folder / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise StartError(f"The spool {self.folder} cannot be written: {error.strerror or error}") from None

    def tidy(self) -> None:
        """Remove what a killed process has left. The caller alone may hold the folder."""
        for path in self._place(ARRIVING).glob("*/.*.part-*"):  # left by a killed process, and not acknowledged
            path.unlink(missing_ok=True)
        for path in self._place(REMOVED).iterdir():
            shutil.rmtree(path, ignore_errors=True)
        for path in self._place(QUEUE).iterdir():  # a process was killed while it made or removed the entry
            if not Entry(path).objects.is_dir():
                self._remove(path)
        newest = {entry.study: entry for entry in self.entries()}
        for entry in self.entries():  # another took its objects over
            if entry != newest[entry.study] and entry.outcome() is None:
                self._remove(entry.folder)

    def has_room(self, size: int = 0) -> bool:
        """Whether the disk has room for so many bytes more."""
        return shutil.disk_usage(self.folder).free - size >= self.least_free_gb * _GB

    def add(self, study: str, name: ObjectName, data: bytes) -> None:
        """Keep an object, in the place of an earlier version of it. When this returns, the disk holds it.

        Raises OSError.
        """
        with self._lock:  # a study must not be moved while one of its objects is written
            folder = self._place(ARRIVING) / study
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
                flush(folder.parent)
            with replace_atomically(folder / name.file) as part:
                part.write_bytes(data)
            for other in folder.glob(f"{name.which}-*.dcm"):
                if other.name != name.file:
                    other.unlink()
            (folder / f"{_OWED}{name.which}").unlink(missing_ok=True)
            flush(folder)
            self._last[study] = time.monotonic()

    def owe(self, study: str, name: ObjectName) -> None:
        """Remember that an object was offered and not acknowledged: its study is not complete without it."""
        with self._lock, suppress(OSError):  # an empty file finds room where data do not
            folder = self._place(ARRIVING) / study
            folder.mkdir(exist_ok=True, mode=0o700)
            (folder / f"{_OWED}{name.which}").touch()
            self._last[study] = time.monotonic()

    def arriving(self) -> list[str]:
        """The studies that are coming in."""
        return sorted(path.name for path in self._place(ARRIVING).iterdir())

    def complete(self, study: str, quiet_seconds: float = 0.0) -> Entry | None:
        """Move a study that has arrived, and was quiet for so long, into the queue, with its earlier objects.

        None where it must wait: for objects that it is owed, or for the results of its earlier entry. None too where it
        brings nothing that was not done before. Where objects are missing for good, the entry's outcome says so. Raises
        OSError.
        """
        with self._lock:
            now = time.monotonic()
            quiet = now - self._last.setdefault(study, now)
            arrived = self._place(ARRIVING) / study
            owed = any(arrived.glob(f"{_OWED}*"))
            if quiet < quiet_seconds or (owed and quiet < 3600 * self.keep_hours):
                return None
            earlier = next((entry for entry in self.entries() if entry.study == study), None)
            if earlier is not None and earlier.outcome() is not None:
                return None
            self._last.pop(study, None)
            stems = {path.stem for path in arrived.glob("*.dcm")}
            done = self.done(study)
            if not stems or (earlier is None and done is not None and stems <= set(done.objects)):
                self._remove(arrived)
                if stems:
                    logger.info("Study %s came again, and brings nothing new", study[:8])
                return None
            before = self._place(KEPT) / study if earlier is None else earlier.objects
            for path in before.glob("*.dcm"):
                if not any(arrived.glob(f"{which_of(path.stem)}-*.dcm")):
                    os.link(path, arrived / path.name)
            return self._into_queue(study, arrived, earlier, _NOT_ALL_CAME if owed else "")

    def _into_queue(self, study: str, arrived: Path, earlier: Entry | None, fault: str) -> Entry:
        known = [one for one in (self.done(study), self.failed(study)) if one is not None]
        wanted = {which_of(stem) for one in known for stem in one.objects}
        entry = Entry(self._place(QUEUE) / f"{time.time_ns():020d}-{study}")
        if wanted - {which_of(path.stem) for path in arrived.glob("*.dcm")}:
            fault = fault or _TOO_LATE
        entry.folder.mkdir(mode=0o700)
        if fault:
            entry.note_outcome(StudyOutcome((), (fault,)))
        os.rename(arrived, entry.objects)
        flush(entry.folder)
        flush(entry.folder.parent)
        if earlier is not None:  # its objects are in the new one
            self._remove(earlier.folder)
        logger.info("Study %s is complete: %d objects", study[:8], len(entry.digests()))
        return entry

    def entries(self) -> list[Entry]:
        """The complete studies that are not done, in the order of arrival."""
        folders = sorted(self._place(QUEUE).iterdir())
        return [Entry(folder) for folder in folders if Entry(folder).objects.is_dir()]

    def done(self, study: str) -> EndedStudy | None:
        """What is known of a study that was done; None of another."""
        return read_note(self._place(DONE_STUDIES) / f"{study}.json", EndedStudy)

    def failed(self, study: str) -> EndedStudy | None:
        """What is known of a study that failed; None of another."""
        return read_note(self._place(FAILED_STUDIES) / f"{study}.json", EndedStudy)

    def failures(self) -> list[str]:
        """The studies that failed and were not done since."""
        return sorted(path.stem for path in self._place(FAILED_STUDIES).glob("*.json"))

    def finish(self, entry: Entry) -> None:
        """Take a study whose results have arrived everywhere out of the queue. Raises OSError."""
        outcome = entry.outcome()
        with signals_held():
            self._leave(entry, DONE_STUDIES, outcome.sentences if outcome else ())
            (self._place(FAILED_STUDIES) / f"{entry.study}.json").unlink(missing_ok=True)

    def fail(self, entry: Entry, sentences: Sequence[str]) -> None:
        """Take a study that cannot be done out of the queue. Raises OSError."""
        self._leave(entry, FAILED_STUDIES, sentences)

    def _leave(self, entry: Entry, place: str, sentences: Sequence[str]) -> None:
        """Note what became of an entry, keep its objects for late ones, and remove the rest."""
        with signals_held(), self._lock:
            study = EndedStudy(tuple(sorted(entry.digests())), time.time(), tuple(sentences))
            write_text(self._place(place) / f"{entry.study}.json", json.dumps(to_plain(study), indent=1) + "\n")
            kept = self._place(KEPT) / entry.study
            self._remove(kept)
            os.rename(entry.objects, kept)
            self._remove(entry.folder)

    def prune(self) -> None:
        """Remove objects that have waited long enough for late ones, and all of them, oldest first, for room."""
        busy = {*self.arriving(), *(entry.study for entry in self.entries())}
        for path in sorted(self._place(KEPT).iterdir(), key=lambda path: path.stat().st_mtime):
            if path.name in busy:
                continue
            when = max((one.when for one in (self.done(path.name), self.failed(path.name)) if one), default=0.0)
            if time.time() - when > 3600 * self.keep_hours or not self.has_room():
                with self._lock:
                    self._remove(path)

    def _remove(self, folder: Path) -> None:
        """Remove a folder that may be there. It is gone at once or not at all, also where the process is killed."""
        if folder.exists():
            gone = self._place(REMOVED) / secrets.token_hex(8)
            os.rename(folder, gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _place(self, name: str) -> Path:
        return self.folder / name
