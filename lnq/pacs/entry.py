"""What lies in the spool: objects, a study in the queue, and what became of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnq.files import write_text
from lnq.plain import check_types, from_plain, to_plain

_OBJECTS, _RESULT, _SENT, _REFUSED = "objects", "result.json", "sent.json", "refused.json"


@dataclass(frozen=True)
class ObjectName:
    """What an object is called in the spool."""

    which: str  # digest of what it is: its UIDs and place
    content: str  # digest of what it holds

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"{self.which}-{self.content}.dcm"


def which_of(stem: str) -> str:
    """What an object is, by its file's name without the extension."""
    return stem.partition("-")[0]


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
        return read_note(self.folder / _RESULT, StudyOutcome)

    def note_outcome(self, outcome: StudyOutcome) -> None:
        """Write what became of it."""
        write_text(self.folder / _RESULT, json.dumps(to_plain(outcome), indent=1) + "\n")

    def sent(self) -> frozenset[str]:
        """Names of the destinations at which its results have arrived."""
        try:
            return frozenset(map(str, json.loads((self.folder / _SENT).read_text())))
        except Exception:  # what is damaged may be damaged in any way; it is sent again
            return frozenset()

    def note_sent(self, destination: str) -> None:
        """Write that its results have arrived there. One thread at a time may do so."""
        write_text(self.folder / _SENT, json.dumps(sorted(self.sent() | {destination})) + "\n")

    def refused(self) -> dict[str, str]:
        """Of destinations that refuse its results for good: the name, and a sentence."""
        try:
            return dict(json.loads((self.folder / _REFUSED).read_text()))
        except Exception:
            return {}

    def note_refused(self, destination: str, sentence: str) -> None:
        """Write that a destination refuses its results for good. One thread at a time may do so."""
        write_text(self.folder / _REFUSED, json.dumps(self.refused() | {destination: sentence}) + "\n")


def read_note(path: Path, kind: type[Any]) -> Any:
    """A note of `kind`; None where it is missing or damaged."""
    try:
        read = from_plain(kind, json.loads(path.read_text()))
        check_types(read)
    except Exception:  # what is damaged may be damaged in any way
        return None
    return read
