"""Segment many cases into one output folder, with a manifest that records the outcome of each."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lnq.archive.case import Case, content_sha256, file_state, free_name
from lnq.archive.discovery import Found, SetAside, ToSegment
from lnq.batch.lock import alone
from lnq.batch.record import (
    CASE_JSON,
    MANIFEST,
    identity_of_result,
    read_foreign_lines,
    read_manifest,
    read_record,
    record_of_failure,
)
from lnq.batch.settings import WorkerSettings
from lnq.batch.stand_ins import StandIns
from lnq.batch.truth import truth_sha256
from lnq.batch.workers.pool import Pool
from lnq.errors import ImageError, StartError, Stopped
from lnq.files import file_sha256, write_text
from lnq.image.itk import read_volume
from lnq.report.pages import write_index
from lnq.results.case_record import FAILED, PAGE, SKIPPED, CaseRecord, Findings, Versions
from lnq.results.node_table import NODES_CSV, NodeRow, read_case_table, write_table

RESERVED = (MANIFEST, NODES_CSV, PAGE)  # the run's own files: no case may have such a name
_EDITED = "The mask was changed after it was written, and is kept: nodes and pictures are those of the first one."
_KEEP_UP_SECONDS = 60.0  # least time between two updates of table and report

logger = logging.getLogger(__name__)


@dataclass
class Batch:
    """One run over an output folder: the cases found, the earlier results, and the manifest of both."""

    found: Sequence[Found]
    settings: WorkerSettings
    overwrite: bool = False
    stopping: Callable[[], bool] = lambda: False
    records: dict[str, CaseRecord] = field(default_factory=dict)  # by case; after the run in the manifest's order
    _stand_ins: StandIns = field(default_factory=lambda: StandIns(()))
    _rows: dict[str, list[NodeRow]] = field(default_factory=dict)  # by case; empty for one that is not done
    _foreign: list[str] = field(default_factory=list)  # lines of other versions, over other inputs: they stay
    unwritten: list[str] = field(default_factory=list)  # of the run's own files that could not be written, sentences
    _written: float = field(default_factory=time.monotonic)  # time in s of the last update of table and report

    @property
    def output(self) -> Path:
        return Path(self.settings.output)

    def run(self, pool: Pool) -> Generator[tuple[CaseRecord, bool]]:
        """Yield each case's record, and whether this run made it, in the order in which they come.

        A case is not done again where an earlier run finished it from the same contents, with the same model, weights
        and options, and with scores of the same truth where one is given. Raises StartError where the model cannot be
        loaded or another run holds the folder, Stopped when told to stop.
        """
        with alone(self.output, self.settings.run):
            yield from self._run(pool)

    def _run(self, pool: Pool) -> Iterator[tuple[CaseRecord, bool]]:
        try:
            versions = pool.start()
            logger.info("Runs on %s, %s", versions.backend, versions.device)
            self.found = _own_names(self.found, self.output)
            self._stand_ins = StandIns(self.found)
            for record in self._earlier():
                self._keep(record)
            to_do: list[Case] = []
            yield from self._check(versions, to_do)
            try:
                self._write_manifest()
            except OSError as error:
                raise StartError(f"{self.output / MANIFEST} cannot be written: {error.strerror or error}") from None
            try:
                yield from self._work_off(pool, to_do, versions)
            finally:
                pool.close()  # no worker may add a result once the manifest is written
                self._finish()
        finally:
            pool.close()

    def _check(self, versions: Versions, to_do: list[Case]) -> Iterator[tuple[CaseRecord, bool]]:
        """Yield the records that need no work, and add the other cases to `to_do`."""
        for found in self.found:
            if self.stopping():
                raise Stopped
            if isinstance(found, SetAside):
                record = _set_aside(found, self.settings)
                self._keep(record)
                stand_in = self._stand_ins.after(found.case, record)
                to_do += [stand_in] if stand_in else []
                if not stand_in and found.after is None:
                    yield record, True
            elif (finished := self._finished(found.case, versions)) is not None:
                self._keep(finished)
                yield finished, False
            else:
                to_do.append(found.case)

    def _work_off(self, pool: Pool, to_do: list[Case], versions: Versions) -> Iterator[tuple[CaseRecord, bool]]:
        """Have the pool run the cases, and then the stand-ins of those that failed.

        A line is appended to the manifest for each.
        """
        told: set[str] = set()
        while to_do:
            stand_ins: list[Case] = []
            for case, record, new in self._outcomes(pool, to_do, versions):
                self._keep(record)
                following = self._stand_ins.after(case, record)
                stand_ins += [following] if following else []
                for final in [] if following else self._stand_ins.outcome(record):
                    self._keep(final)
                    told.add(final.case)
                    self._append(final)
                    yield final, new
                if time.monotonic() - self._written > _KEEP_UP_SECONDS:  # for people who look during the run
                    self._write_results()
            to_do = stand_ins
        waited = (f.case.name for f in self.found if isinstance(f, SetAside) and f.after is not None)
        yield from ((self.records[name], True) for name in waited if name not in told)

    def _outcomes(
        self, pool: Pool, to_do: Sequence[Case], versions: Versions
    ) -> Iterator[tuple[Case, CaseRecord, bool]]:
        """Yield each case with its record, and whether this run made it. A stand-in may have a result already."""
        by_name = {case.name: case for case in to_do}
        for case in to_do:
            finished = self._finished(case, versions) if case.warnings else None
            if finished is not None:
                yield by_name.pop(case.name), finished, False
        for record in pool.run(list(by_name.values())):
            yield by_name[record.case], record, True

    def _append(self, record: CaseRecord) -> None:
        """Add a line to the manifest. Where that fails, the case's own folder still has the record."""
        with suppress(OSError), open(self.output / MANIFEST, "a") as manifest:
            manifest.write(record.line())

    def _keep(self, record: CaseRecord) -> None:
        """Remember a case's record, and read the table of its nodes."""
        self.records[record.case] = record
        rows = read_case_table(self.output / record.case) if record.is_done else None
        self._rows[record.case] = rows or []

    def _earlier(self) -> list[CaseRecord]:
        """Records of earlier runs over other inputs. They stay in the folder and in the manifest."""
        own = {found.case.name for found in self.found}
        self._foreign = [line for name, line in read_foreign_lines(self.output).items() if name not in own]
        earlier = read_manifest(self.output)
        return [r for name, r in earlier.items() if name not in own and read_record(self.output, name)]

    def _finished(self, case: Case, versions: Versions) -> CaseRecord | None:
        """An earlier run's record of a case; None where the case must be done again."""
        record = None if self.overwrite else read_record(self.output, case.name)
        if record is None or not is_current(record, case, self.settings, versions):
            return None
        assert record.findings is not None  # of a case that is done
        if record.findings.mask_sha256 != file_sha256(self.output / str(record.mask)):
            return dataclasses.replace(record, warnings=(*record.warnings, _EDITED))
        return record

    def _finish(self) -> None:
        """Write the manifest, the table of all nodes and the report, with cases in the order of `found`."""
        order = {found.case.name: index for index, found in enumerate(self.found)}
        names = sorted(self.records, key=lambda name: order.get(name, -1))
        self.records = {name: self.records[name] for name in names}
        self.unwritten.clear()
        self._try(self._write_manifest)
        self._write_results()

    def _write_results(self) -> None:
        """Write the table of all nodes and the report, or note why they cannot be written."""
        rows = [row for name in self.records for row in self._rows[name]]
        self._try(lambda: write_table(self.output, rows))
        if self.settings.options.page:
            self._try(lambda: write_index(self.output, list(self.records.values()), rows))
        self._written = time.monotonic()

    def _try(self, write: Callable[[], None]) -> None:
        """Write one of the run's own files, or note why it cannot be written: no case depends on it."""
        try:
            write()
        except OSError as error:
            self.unwritten.append(f"{self.output} lacks a list of its results: {error.strerror or error}")

    def _write_manifest(self) -> None:
        lines = [line + "\n" for line in self._foreign] + [record.line() for record in self.records.values()]
        write_text(self.output / MANIFEST, "".join(lines))


def _own_names(found: Sequence[Found], output: Path) -> list[Found]:
    """Rename cases: each takes the name of its own earlier result, and none that of another case's result."""
    folders = (path.parent for path in sorted(output.glob(f"*/{CASE_JSON}")))
    results = {folder.name: identity for folder in folders if (identity := identity_of_result(folder)) is not None}
    known = {identity: name for name, identity in results.items()}
    named, used = list[Found](), set[str]()
    for one in found:
        name, identity = one.case.name, one.case.identity
        if isinstance(one, ToSegment) and identity in known:
            name = known[identity]
        elif name in results and results[name] != identity and _is_anothers(read_record(output, name), one):
            used.add(name.lower())
        name = free_name(one.case, name, used)
        if isinstance(one, ToSegment):
            named.append(ToSegment(dataclasses.replace(one.case, name=name)))
        else:
            named.append(dataclasses.replace(one, case=dataclasses.replace(one.case, name=name)))
    return named


def _is_anothers(record: CaseRecord | None, found: Found) -> bool:
    """Whether a result of another identity was made of other contents; so it is where that is not known."""
    if not isinstance(found.case, Case) or record is None or record.findings is None:
        return True
    try:
        return record.findings.input_sha256 != content_sha256(found.case)
    except (OSError, ImageError):
        return True


def _set_aside(found: SetAside, settings: WorkerSettings) -> CaseRecord:
    """The record of something that is not segmented."""
    return record_of_failure(found.case, settings, found.reason, status=FAILED if found.failed else SKIPPED)


def is_current(record: CaseRecord, case: Case, settings: WorkerSettings, versions: Versions) -> bool:
    """Whether a finished case's result is the one that this run would make."""
    output, findings = Path(settings.output), record.findings
    if (
        findings is None
        or record.versions is None
        or (record.versions.model, record.versions.weights) != (versions.model, versions.weights)
        or findings.options != settings.options
        or not _is_whole(output / str(record.mask), findings)
        or read_case_table(output / case.name) is None
        or not _has_scores(record, case, settings)
        or not all(_is_there(output / case.name / name) for name in _expected(settings, findings))
    ):
        return False
    try:
        return findings.input_state == file_state(case) or findings.input_sha256 == content_sha256(case)
    except (OSError, ImageError):
        return False


def _is_whole(mask: Path, findings: Findings) -> bool:
    """Whether a mask is as it was written, or another file that can be read, which may be a person's work."""
    try:
        if file_sha256(mask) != findings.mask_sha256:
            read_volume(mask)
    except (OSError, ImageError):
        return False
    return True


def _is_there(path: Path) -> bool:
    """Whether an object is there: a file, or a folder with some."""
    return any(path.iterdir()) if path.is_dir() else path.is_file()


def _expected(settings: WorkerSettings, findings: Findings) -> set[str]:
    """The DICOM objects of a case that could be made."""
    return set(settings.options.dicom_objects) - set(findings.left_out)


def _has_scores(record: CaseRecord, case: Case, settings: WorkerSettings) -> bool:
    """Whether the record's scores belong to today's truth. True where there is no truth."""
    wanted = truth_sha256(case, settings.truth)
    return wanted is None or (record.scores is not None and record.scores.truth_sha256 == wanted)
