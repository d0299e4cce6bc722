"""Many cases into one output folder, several at a time, with a manifest that says what became of each."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lnq.archive.case import Case, free_name, identity
from lnq.archive.discovery import Found
from lnq.archive.open import content_sha256, file_state
from lnq.batch.case import CASE_JSON, WORK_FOLDER, Settings, failed_entry, read_entry, truth_sha256
from lnq.batch.worker import Limits, Worker
from lnq.errors import ImageError, StartError, Stopped
from lnq.files import write_text
from lnq.report.pages import PAGE, write_index
from lnq.results.node_table import NODES_CSV, Entry, read_case_table, write_table

MANIFEST = "manifest.jsonl"
RESERVED = (MANIFEST, NODES_CSV, PAGE)  # the run's own files, which no case may be named after
_LOCK = ".lnq-lock"
_KEEP_UP_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Pool(Protocol):
    """Something that has cases done."""

    def start(self) -> dict[str, str]:
        """Load the model; returns the versions that every result carries. Raises StartError where it cannot."""

    def run(self, cases: Sequence[Case]) -> Iterator[Entry]:
        """The cases' lines of the manifest, as they are done. Raises Stopped when told to stop."""

    def close(self) -> None:
        """End all processes."""


class LocalPool:
    """Worker processes on this machine."""

    def __init__(self, settings: Settings, limits: Limits, workers: int, stop: threading.Event) -> None:
        self._workers = [Worker(settings, limits, stop.is_set) for _ in range(workers)]
        self._stop = stop

    def start(self) -> dict[str, str]:
        """See `Pool`; one worker starts, the others with their first case."""
        self._workers[0].start()
        return self._workers[0].versions

    def run(self, cases: Sequence[Case]) -> Iterator[Entry]:
        """See `Pool`."""
        waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
        done: queue.SimpleQueue[Entry | Exception] = queue.SimpleQueue()
        for case in cases:
            waiting.put(case)
        for worker in self._workers:
            threading.Thread(target=_work_off, args=(worker, waiting, done), daemon=True).start()
        for _ in cases:
            result = done.get()
            if isinstance(result, Exception):
                self._stop.set()
                raise result
            yield result

    def close(self) -> None:
        """See `Pool`."""
        self._stop.set()  # or a thread whose worker ends here would start another
        for worker in self._workers:
            worker.close()


def _work_off(worker: Worker, waiting: queue.SimpleQueue[Case], done: queue.SimpleQueue[Entry | Exception]) -> None:
    """A thread's work: one case after the other, until there is none or the run stops."""
    try:
        while True:
            done.put(worker.run(waiting.get_nowait()))
    except queue.Empty:
        worker.close()
    except Exception as error:
        done.put(error)


@dataclass
class Batch:
    """One run over an output folder: what is there, what is to be done, and the manifest that keeps up."""

    found: Sequence[Found]
    settings: Settings
    overwrite: bool = False
    stopping: Callable[[], bool] = lambda: False
    entries: dict[str, Entry] = field(default_factory=dict)  # by case, in the manifest's order at the end
    _written: float = field(default_factory=time.monotonic)  # when table and report last were

    @property
    def output(self) -> Path:
        return Path(self.settings.output)

    def run(self, pool: Pool) -> Generator[tuple[Entry, bool]]:
        """Each case's line of the manifest, and whether it is of this run, as they come.

        A case that an earlier run finished, from the same contents, with the same weights and options and, where a
        truth is given, with its scores, is not done again. Raises StartError where the model cannot be loaded.
        """
        with _alone(self.output):
            yield from self._run(pool)

    def _run(self, pool: Pool) -> Iterator[tuple[Entry, bool]]:
        try:
            versions = pool.start()
            self.found = _own_names(self.found, self.output)
            self.entries = self._earlier()
            to_do: list[Case] = []
            yield from self._check(versions, to_do)
            self._write_manifest()
            try:
                yield from self._work_off(pool, to_do)
            finally:
                pool.close()  # before the last word on what is there
                self._finish()
        finally:
            pool.close()

    def _check(self, versions: dict[str, str], to_do: list[Case]) -> Iterator[tuple[Entry, bool]]:
        """What needs no work; the other cases are added to `to_do`."""
        for found in self.found:
            if self.stopping():
                raise Stopped
            entry = _entry_of(found, self.settings) if found.reason else self._finished(found.case, versions)
            if entry is None:
                to_do.append(found.case)
            else:
                self.entries[found.case.name] = entry
                yield entry, found.reason is not None

    def _work_off(self, pool: Pool, to_do: list[Case]) -> Iterator[tuple[Entry, bool]]:
        """Have the cases done; the manifest grows by a line for each."""
        with open(self.output / MANIFEST, "a") as manifest:
            for entry in pool.run(to_do):
                self.entries[entry["case"]] = entry
                manifest.write(json.dumps(entry) + "\n")
                manifest.flush()
                self._keep_up()
                yield entry, True

    def _earlier(self) -> dict[str, Entry]:
        """Results of earlier runs over other inputs: they stay, in the manifest too."""
        own = {found.case.name for found in self.found}
        earlier = read_manifest(self.output)
        return {name: entry for name, entry in earlier.items() if name not in own and read_entry(self.output, name)}

    def _finished(self, case: Case, versions: dict[str, str]) -> Entry | None:
        """What an earlier run made of a case, where it need not be done again."""
        entry = None if self.overwrite else read_entry(self.output, case.name)
        if entry is None or not is_current(entry, case, self.settings, versions):
            return None
        return entry

    def _keep_up(self) -> None:
        """Write table and report now and then, for those who look at them while the run goes on."""
        if time.monotonic() - self._written > _KEEP_UP_SECONDS:
            self._write_results()

    def _finish(self) -> None:
        """Write the manifest, the table of all nodes and the report, in the order in which the cases were found."""
        order = {found.case.name: index for index, found in enumerate(self.found)}
        names = sorted(self.entries, key=lambda name: order.get(name, -1))
        self.entries = {name: self.entries[name] for name in names}
        self._write_manifest()
        self._write_results()

    def _write_results(self) -> None:
        done = (name for name, entry in self.entries.items() if entry["status"] == "done")
        rows = [row for name in done for row in read_case_table(self.output / name) or []]
        write_table(self.output, rows)
        if self.settings.options.page:
            write_index(self.output, list(self.entries.values()), rows)
        self._written = time.monotonic()

    def _write_manifest(self) -> None:
        write_text(self.output / MANIFEST, "".join(json.dumps(entry) + "\n" for entry in self.entries.values()))


def _own_names(found: Sequence[Found], output: Path) -> list[Found]:
    """The cases under the names of their earlier results, and none under that of another one's."""
    results = (read_entry(output, path.parent.name) for path in sorted(output.glob(f"*/{CASE_JSON}")))
    earlier = {entry["case"]: entry for entry in results if entry is not None}
    known = {entry.get("id"): name for name, entry in earlier.items()}
    named, used = [], set[str]()
    for one in found:
        name = one.case.name
        if one.reason is None and identity(one.case) in known:
            name = known[identity(one.case)]
        elif _is_anothers(earlier.get(name), one.case):
            used.add(name.lower())
        case = dataclasses.replace(one.case, name=free_name(one.case, name, used))
        named.append(dataclasses.replace(one, case=case))
    return named


def _is_anothers(entry: Entry | None, case: Case) -> bool:
    """Whether a result of the case's name is of other contents."""
    if entry is None or entry.get("id") == identity(case):
        return False
    try:
        return entry.get("input_sha256") != content_sha256(case)
    except (OSError, ImageError):
        return True


def _entry_of(found: Found, settings: Settings) -> Entry:
    """The line of the manifest of a case that is not segmented."""
    assert found.reason is not None
    entry = failed_entry(found.case, settings, found.reason)
    return entry | {"status": "failed" if found.failed else "skipped"}


def is_current(entry: Entry, case: Case, settings: Settings, versions: dict[str, str]) -> bool:
    """Whether a result is what this run would make."""
    output = Path(settings.output)
    if (
        entry.get("status") != "done"
        or any(entry.get("versions", {}).get(name) != versions[name] for name in ("model", "weights"))
        or entry.get("options") != dataclasses.asdict(settings.options)
        or not (output / str(entry.get("mask"))).is_file()
        or read_case_table(output / case.name) is None
        or truth_sha256(case, settings.truth) not in (None, entry.get("truth_sha256"))
    ):
        return False
    try:
        return entry.get("input_state") == file_state(case) or entry.get("input_sha256") == content_sha256(case)
    except (OSError, ImageError):
        return False


def read_manifest(output: Path) -> dict[str, Entry]:
    """An earlier run's entries by case; what is no entry is left out."""
    entries: dict[str, Entry] = {}
    path = output / MANIFEST
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            if {"case", "status"} <= entry.keys():
                entries[entry["case"]] = entry
        except (ValueError, AttributeError, TypeError):
            continue
    return entries


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Hold the output folder for this run, without what a killed one left. Raises StartError where another runs."""
    with open(output / _LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"Another run is writing to {output}: wait for it, or choose another folder") from None
        except OSError:
            logger.warning("The output's file system has no locks: do not start a second run on this folder")
        try:
            _remove_leftovers(output)
            yield
        finally:
            shutil.rmtree(output / WORK_FOLDER, ignore_errors=True)


def _remove_leftovers(output: Path) -> None:
    """What a run that was killed had not finished."""
    shutil.rmtree(output / WORK_FOLDER, ignore_errors=True)
    for part in output.glob(".*.part-*"):
        part.unlink(missing_ok=True)
