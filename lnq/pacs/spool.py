"""The node's queue on disk, from which it goes on after any end: what was acknowledged is here, and is done once.

    arriving/STUDY/OBJECT.dcm        a study that is still coming in
    queue/TIME-STUDY/objects/        a complete one, in the order of arrival
    queue/TIME-STUDY/result/         what segmenting it leaves, and result.json once that has ended
    queue/TIME-STUDY/sent.json       where its results have arrived; refused.json, where they never will
    kept/STUDY/                      the objects of a study that has ended, for those that come late
    done/STUDY.json, failed/STUDY.json
    removed/                         what is being removed

STUDY and OBJECT are digests, which name nobody. A folder changes its place by one rename.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnq.errors import StartError
from lnq.files import flush, replace_atomically, write_text
from lnq.plain import from_plain, to_plain

ARRIVING, QUEUE, KEPT, REMOVED = "arriving", "queue", "kept", "removed"
DONE_STUDIES, FAILED_STUDIES = "done", "failed"
_FOLDERS = (ARRIVING, QUEUE, KEPT, REMOVED, DONE_STUDIES, FAILED_STUDIES)
_OBJECTS, _RESULT, _SENT, _REFUSED = "objects", "result.json", "sent.json", "refused.json"
_GB = 1e9

logger = logging.getLogger(__name__)


def digest_of(data: bytes) -> str:
    """32 hex digits that stand for some bytes."""
    return hashlib.sha256(data).hexdigest()[:32]


@dataclass(frozen=True)
class StudyOutcome:
    """The content of `result.json`: what became of a study."""

    files: tuple[str, ...]  # DICOM objects to be sent, below the entry's folder
    sentences: tuple[str, ...] = ()  # what failed or was set aside, without names
    nodes: int = 0


@dataclass(frozen=True)
class EndedStudy:
    """The content of a file in `done` or `failed`."""

    objects: tuple[str, ...]  # digests
    when: float  # seconds since 1970
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A complete study in the queue."""

    folder: Path

    @property
    def study(self) -> str:
        """The digest of the study's identity."""
        return self.folder.name.rpartition("-")[2]

    @property
    def objects(self) -> Path:
        """The folder of its DICOM objects."""
        return self.folder / _OBJECTS

    def digests(self) -> frozenset[str]:
        """The digests of its objects."""
        return frozenset(path.stem for path in self.objects.glob("*.dcm"))

    def outcome(self) -> StudyOutcome | None:
        """What became of it; None where it is still to be segmented."""
        return _read(self.folder / _RESULT, StudyOutcome)

    def note_outcome(self, outcome: StudyOutcome) -> None:
        """Write what became of it."""
        write_text(self.folder / _RESULT, json.dumps(to_plain(outcome), indent=1) + "\n")

    def sent(self) -> frozenset[str]:
        """Names of the destinations at which its results have arrived."""
        try:
            return frozenset(json.loads((self.folder / _SENT).read_text()))
        except (OSError, ValueError, TypeError):
            return frozenset()

    def note_sent(self, destination: str) -> None:
        """Write that its results have arrived there. One thread at a time may do so."""
        write_text(self.folder / _SENT, json.dumps(sorted(self.sent() | {destination})) + "\n")

    def refused(self) -> dict[str, str]:
        """Of destinations that refuse its results for good: the name, and a sentence."""
        try:
            return dict(json.loads((self.folder / _REFUSED).read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def note_refused(self, destination: str, sentence: str) -> None:
        """Write that a destination refuses its results for good. One thread at a time may do so."""
        write_text(self.folder / _REFUSED, json.dumps(self.refused() | {destination: sentence}) + "\n")


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
        for path in self._place(ARRIVING).glob("*/.*"):  # left by a killed process, and not acknowledged
            path.unlink(missing_ok=True)
        for path in self._place(REMOVED).iterdir():
            shutil.rmtree(path, ignore_errors=True)
        for path in self._place(QUEUE).iterdir():  # a process was killed while it made or removed the entry
            if not (path / _OBJECTS).is_dir():
                self._remove(path)

    def has_room(self, size: int = 0) -> bool:
        """Whether the disk has room for so many bytes more."""
        return shutil.disk_usage(self.folder).free - size >= self.least_free_gb * _GB

    def add(self, study: str, digest: str, data: bytes) -> None:
        """Keep an object. When this returns, the disk holds it. Raises OSError."""
        with self._lock:  # a study must not be moved while one of its objects is written
            folder = self._place(ARRIVING) / study
            folder.mkdir(exist_ok=True, mode=0o700)
            with replace_atomically(folder / f"{digest}.dcm") as part:
                part.write_bytes(data)
            flush(folder)
            self._last[study] = time.monotonic()

    def arriving(self) -> list[str]:
        """The studies that are coming in."""
        return sorted(path.name for path in self._place(ARRIVING).iterdir())

    def quiet_for(self, study: str) -> float:
        """Seconds since a study's last object came, or since this process began to look."""
        with self._lock:
            return time.monotonic() - self._last.setdefault(study, time.monotonic())

    def complete(self, study: str) -> Entry | None:
        """Move a study that has arrived into the queue, with its earlier objects.

        None where it must wait for its earlier entry, or brings nothing that was not done before. Raises OSError.
        """
        with self._lock:
            if any(entry.study == study for entry in self.entries()):
                return None
            arrived = self._place(ARRIVING) / study
            self._last.pop(study, None)
            done = self.done(study)
            if done is not None and {path.stem for path in arrived.glob("*.dcm")} <= set(done.objects):
                self._remove(arrived)
                logger.info("Study %s came again, and brings nothing new", study[:8])
                return None
            for path in (self._place(KEPT) / study).glob("*.dcm"):
                if not (arrived / path.name).exists():
                    os.link(path, arrived / path.name)
            entry = Entry(self._place(QUEUE) / f"{time.time_ns():020d}-{study}")
            entry.folder.mkdir(mode=0o700)
            os.rename(arrived, entry.objects)
            flush(entry.folder.parent)
            logger.info("Study %s is complete: %d objects", study[:8], len(entry.digests()))
            return entry

    def entries(self) -> list[Entry]:
        """The complete studies that are not done, in the order of arrival."""
        folders = sorted(self._place(QUEUE).iterdir())
        return [Entry(folder) for folder in folders if (folder / _OBJECTS).is_dir()]

    def done(self, study: str) -> EndedStudy | None:
        """What is known of a study that was done; None of another."""
        return _read(self._place(DONE_STUDIES) / f"{study}.json", EndedStudy)

    def failed(self, study: str) -> EndedStudy | None:
        """What is known of a study that failed; None of another."""
        return _read(self._place(FAILED_STUDIES) / f"{study}.json", EndedStudy)

    def failures(self) -> list[str]:
        """The studies that failed and were not done since."""
        return sorted(path.stem for path in self._place(FAILED_STUDIES).glob("*.json"))

    def finish(self, entry: Entry) -> None:
        """Take a study whose results have arrived everywhere out of the queue. Raises OSError."""
        outcome = entry.outcome()
        self._leave(entry, DONE_STUDIES, outcome.sentences if outcome else ())
        (self._place(FAILED_STUDIES) / f"{entry.study}.json").unlink(missing_ok=True)

    def fail(self, entry: Entry, sentences: Sequence[str]) -> None:
        """Take a study that cannot be done out of the queue. Raises OSError."""
        self._leave(entry, FAILED_STUDIES, sentences)

    def _leave(self, entry: Entry, place: str, sentences: Sequence[str]) -> None:
        """Note what became of an entry, keep its objects for late ones, and remove the rest."""
        with self._lock:
            study = EndedStudy(tuple(sorted(entry.digests())), time.time(), tuple(sentences))
            write_text(self._place(place) / f"{entry.study}.json", json.dumps(to_plain(study), indent=1) + "\n")
            kept = self._place(KEPT) / entry.study
            self._remove(kept)
            os.rename(entry.objects, kept)
            self._remove(entry.folder)

    def prune(self) -> None:
        """Remove objects that have waited long enough for late ones, and all of them, oldest first, for room."""
        for path in sorted(self._place(KEPT).iterdir(), key=lambda path: path.stat().st_mtime):
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


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return from_plain(kind, json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
