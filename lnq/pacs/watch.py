"""Take studies from a folder into which others put them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.filereader import read_partial

from lnq.files import write_text
from lnq.pacs.receive import CANNOT_UNDERSTAND, LARGEST_BYTES, OUT_OF_RESOURCES, Receiver

_SEEN = "watched.json"
_PREFIX, _GROUP_LENGTH = 128 + 4, 12  # bytes of the preamble with DICM, and of the element that tells the length

logger = logging.getLogger(__name__)


@dataclass
class Watcher:
    """Copies the DICOM files that appear below a folder into the spool. The folder stays as it is.

    A file is copied when it has stayed the same for `quiet_seconds`, and again where it changed.
    """

    folder: Path
    receiver: Receiver
    quiet_seconds: float
    _seen: dict[str, list[int]] = field(default_factory=dict)  # by path: size and time of change, once copied
    _since: dict[str, tuple[list[int], float]] = field(default_factory=dict)  # by path: state, and since when
    _told: set[int | None] = field(default_factory=set)  # numbers of the errors that were said

    def __post_init__(self) -> None:
        try:
            self._seen = {str(k): list(map(int, v)) for k, v in json.loads(self._list.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._seen = {}

    @property
    def _list(self) -> Path:
        return self.receiver.spool.folder / _SEEN

    def look(self, now: float) -> int:
        """Copy what is new, at a time of a clock that never goes back, in seconds. Returns how many files were."""
        present: dict[str, list[int]] = {}
        copied = 0
        for path, state in self._files():
            name = str(path)
            present[name] = state
            before, since = self._since.get(name, ([], now))
            self._since[name] = (state, since if before == state else now)
            settled = before == state and now - since >= self.quiet_seconds
            if settled and self._seen.get(name) != state and self._take(path):
                self._seen[name] = state
                copied += 1
        gone = (self._seen.keys() | self._since.keys()) - present.keys()
        for name in gone:
            self._seen.pop(name, None)
            self._since.pop(name, None)
        if copied or gone:
            write_text(self._list, json.dumps(self._seen) + "\n")
        return copied

    def _files(self) -> Iterator[tuple[Path, list[int]]]:
        for path in sorted(self.folder.rglob("*")):
            try:
                if path.is_file() and not path.name.startswith("."):
                    facts = path.stat()
                    yield path, [facts.st_size, facts.st_mtime_ns]
            except OSError:
                continue

    def _take(self, path: Path) -> bool:
        """Copy a file; whether it need not be looked at again."""
        try:
            if path.stat().st_size > LARGEST_BYTES:
                logger.warning("A file in the watched folder is too large, and is left out")
                return True
            data = path.read_bytes()
        except OSError as error:
            if error.errno not in self._told:
                logger.warning("A file in the watched folder cannot be read, and is tried again: %s", error.strerror)
            self._told.add(error.errno)
            return False
        body = _body_of(data)
        if body is None:
            return True  # no DICOM file
        status, _ = self.receiver.take(data, body)
        if status == CANNOT_UNDERSTAND:
            logger.warning("A DICOM file in the watched folder cannot be read, and is left out")
        return status != OUT_OF_RESOURCES


def _body_of(part10: bytes) -> bytes | None:
    """The bytes of a DICOM file's data set alone; None where it is no DICOM file."""
    try:
        meta = read_partial(io.BytesIO(part10), stop_when=lambda *_: True).file_meta
        return part10[_PREFIX + _GROUP_LENGTH + int(meta.FileMetaInformationGroupLength) :]
    except Exception:  # pydicom raises many kinds
        return None
