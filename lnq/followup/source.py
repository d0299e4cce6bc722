"""From what a user names to two results of `lnq batch`: it is one, or holds one, or is segmented first."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lnq.archive.case import ArchivedSeries, Case, DicomSeries
from lnq.archive.discovery import SetAside, ToSegment, discover
from lnq.batch.record import CASE_JSON, MANIFEST, identity_of_result, read_manifest
from lnq.batch.run import Batch
from lnq.batch.settings import CaseLimits, WorkerSettings
from lnq.batch.workers.pool import LocalPool
from lnq.errors import ImageError, StartError
from lnq.followup.comparison import COMPARISON_JSON, FollowUp, read_json
from lnq.memory import share_gb
from lnq.results.case_record import FAILED, ResultOptions

CASES = "cases"  # folder of what had to be segmented
NAMES = ("earlier", "later")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResultSource:
    """A result, and the comparison that it was the later part of."""

    folder: Path
    comparison: FollowUp | None = None


def sources_of(earlier: Path, later: Path, output: Path, settings: WorkerSettings) -> tuple[ResultSource, ResultSource]:
    """The results of the two CTs. What must be segmented first is kept below `output`.

    `settings` tell the model and how it runs.

    Raises StartError where one of the two cannot be what is meant, ImageError where it cannot be segmented, and
    BundleError where the model cannot be loaded.
    """
    if earlier.resolve() == later.resolve():
        raise StartError("EARLIER and LATER are the same path")
    found = [_result(path) for path in (earlier, later)]
    cases = [None if one else _case(path, output) for one, path in zip(found, (earlier, later), strict=True)]
    to_do = [dataclasses.replace(case, name=name) for case, name in zip(cases, NAMES, strict=True) if case is not None]
    folders = iter(_segment(to_do, output / CASES, settings))
    first, second = (one or ResultSource(next(folders)) for one in found)
    return first, second


def _result(path: Path) -> ResultSource | None:
    """The result that a path is or holds; None for a CT. Raises StartError where it holds several or none."""
    if path.name == COMPARISON_JSON:
        path = path.parent
    if (path / COMPARISON_JSON).is_file():
        comparison = read_json(path)
        folder = path / comparison.later.folder
        if identity_of_result(folder) is None:
            raise StartError(f"{path} compares a CT whose result is no longer at {folder}")
        return ResultSource(folder.resolve(), comparison)
    if identity_of_result(path.resolve()) is not None:
        return ResultSource(path.resolve())
    if (path / CASE_JSON).is_file():
        raise StartError(f"{path} is a result whose {CASE_JSON} is damaged, or whose folder was renamed")
    if (path / MANIFEST).is_file():
        done = [record.case for record in read_manifest(path).values() if record.is_done]
        if len(done) != 1:
            raise StartError(f"{path} holds the results of {len(done)} cases: give the folder of one of them")
        return ResultSource((path / done[0]).resolve())
    return None


def _case(path: Path, output: Path) -> Case:
    """The one CT that a path is or holds. Raises StartError where there are several or none."""
    found = discover([path.absolute()], leave_out=output)
    cases = [one.case for one in found if isinstance(one, ToSegment)]
    if len(cases) > 1:
        raise StartError(f"{path} holds {len(cases)} CTs: give the path of one of them")
    if not cases:
        reasons = [str(one.explained(one.case).reason) for one in found if isinstance(one, SetAside)]
        raise StartError(reasons[0] if reasons else f"{path} holds no CT")
    return cases[0]


def _segment(cases: Sequence[Case], output: Path, settings: WorkerSettings) -> list[Path]:
    """Segment cases, as `lnq batch` does, unless an earlier run has. Returns the folders of their results.

    Raises ImageError where one cannot be segmented.
    """
    folders: dict[str, Path] = {}
    for is_series in (True, False):
        own = [case for case in cases if isinstance(case, (DicomSeries, ArchivedSeries)) is is_series]
        if not own:
            continue
        output.mkdir(parents=True, exist_ok=True)
        options = ResultOptions(sr=is_series and find_spec("highdicom") is not None)
        settings = dataclasses.replace(
            settings, output=str(output.resolve()), run=secrets.token_hex(8), options=options
        )
        pool = LocalPool(settings, CaseLimits(0.0, share_gb(1)), 1, threading.Event())
        with closing(Batch([ToSegment(case) for case in own], settings).run(pool)) as records:
            for record, is_new in records:
                if not is_new:
                    logger.info("%s is done already", record.case)
                if record.status == FAILED:
                    raise ImageError("{reason}", reason=record.error or "")
                if record.is_done:
                    folders[record.id] = output.resolve() / record.case
    return [folders[case.identity] for case in cases]
