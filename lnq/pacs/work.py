"""Segment a study, as `lnq batch` does, in a process of its own."""

from __future__ import annotations

import secrets
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lnq.archive.discovery import SetAside, ToSegment, discover
from lnq.batch.run import RESERVED, Batch
from lnq.batch.settings import CaseLimits, WorkerSettings
from lnq.batch.workers.pool import LocalPool
from lnq.dicom.choice import ONE_PER_STUDY
from lnq.errors import StartError
from lnq.files import PRIVATE_UMASK
from lnq.memory import share_gb
from lnq.pacs.entry import StudyOutcome
from lnq.results.case_record import FAILED, ResultOptions

_NOTHING = "No axial CT series is in it"


@dataclass(frozen=True)
class Segmenting:
    """How studies are segmented."""

    bundle: Path
    options: ResultOptions
    key: str  # of the digests that cases are called by
    device: str = "auto"
    precision: str = "auto"
    mirror: int | None = None
    members: int | None = None
    time_limit: float = 0.0  # seconds


def segment_study(objects: Path, folder: Path, how: Segmenting, stop: threading.Event) -> StudyOutcome:
    """Segment the study whose DICOM objects lie in `objects`. Results go below `folder`, where a run goes on.

    Returns what became of it, with files relative to `folder`, and with none where it failed. Raises Stopped when told
    to stop, StartError and BundleError where the model cannot be loaded.
    """
    output = folder / "result"
    output.mkdir(exist_ok=True, mode=0o700)
    try:
        found = discover([objects], ONE_PER_STUDY, output, how.key, RESERVED, stop.is_set)
    except StartError:  # no file is a DICOM object that can be read
        return StudyOutcome((), (_NOTHING,))
    if not any(isinstance(one, ToSegment) for one in found):
        reasons = [str(one.reason.without_names(one.case.name)) for one in found if isinstance(one, SetAside)]
        return StudyOutcome((), tuple(reasons) or (_NOTHING,))
    settings = WorkerSettings(
        output=str(output),
        bundle=str(how.bundle.resolve()),
        device=how.device,
        precision=how.precision,
        mirror=how.mirror,
        members=how.members,
        private=True,
        umask=PRIVATE_UMASK,
        run=secrets.token_hex(8),
        options=how.options,
    )
    ended = threading.Event()  # closing a pool sets its event
    pool = LocalPool(settings, CaseLimits(how.time_limit, share_gb(1)), 1, _Either(stop, ended))
    files, sentences, nodes = list[str](), list[str](), 0
    with closing(Batch(found, settings, stopping=stop.is_set).run(pool)) as records:
        for record, _ in records:
            if record.is_done and record.findings is not None:
                files += sorted(str(path.relative_to(folder)) for path in (output / record.case).rglob("*.dcm"))
                sentences += record.warnings
                nodes += record.findings.nodes
            elif record.status == FAILED:
                sentences.append(record.error or "")
    return StudyOutcome(tuple(files), tuple(sentences), nodes)


class _Either(threading.Event):
    """An event that is also set where another one is."""

    def __init__(self, other: threading.Event, own: threading.Event) -> None:
        super().__init__()
        self._other, self._own = other, own

    def is_set(self) -> bool:
        return self._other.is_set() or self._own.is_set()

    def set(self) -> None:
        self._own.set()
