"""Take studies from a folder into which others put them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from lnq.files import write_text
from lnq.pacs.receive import OUT_OF_RESOURCES, Receiver

_SEEN = "watched.json"
_LARGEST = 1 << 31  # bytes of a file that is looked at

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
    _before: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._seen = {str(k): list(map(int, v)) for k, v in json.loads(self._list.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._seen = {}

    @property
    def _list(self) -> Path:
        return self.receiver.spool.folder / _SEEN

    def look(self, now: float) -> int:
        """Copy what is new, at a time in seconds since 1970. Returns how many files were."""
        present: dict[str, list[int]] = {}
        copied = 0
        for path, state in self._files():
            name = str(path)
            present[name] = state
            settled = self._before.get(name) == state and now - state[1] / 1e9 >= self.quiet_seconds
            if settled and self._seen.get(name) != state and self._take(path):
                self._seen[name] = state
                copied += 1
        self._before = present
        gone = self._seen.keys() - present.keys()
        for name in gone:
            del self._seen[name]
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
            if path.stat().st_size > _LARGEST:
                return True
            data = path.read_bytes()
            body = _body_of(data)
        except (OSError, InvalidDicomError, ValueError, AttributeError, KeyError):
            return True  # no DICOM file
        return self.receiver.take(data, body) != OUT_OF_RESOURCES


def _body_of(part10: bytes) -> bytes:
    """The bytes of a DICOM file's data set alone. Raises InvalidDicomError where it is no DICOM file."""
    stream = io.BytesIO(part10)
    dcmread(stream, stop_before_pixels=True, specific_tags=["SOPClassUID"])  # refuses other files
    meta = dcmread(io.BytesIO(part10), stop_before_pixels=True, specific_tags=[]).file_meta
    start = 128 + 4 + 12 + int(meta.FileMetaInformationGroupLength)
    return part10[start:]
