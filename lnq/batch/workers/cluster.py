"""Run cases on the workers of a Dask cluster. The workers must see the same files under the same paths."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from lnq.archive.case import KINDS, Case
from lnq.batch.record import record_of_failure
from lnq.batch.settings import CaseLimits, WorkerSettings
from lnq.batch.workers.worker import Worker
from lnq.errors import Message, StartError, Stopped, Words
from lnq.plain import from_plain, from_tagged, to_plain, to_tagged
from lnq.results.case_record import CaseRecord, Versions
from lnq.version import __version__

_CONNECT_SECONDS = 30
_POLL_SECONDS = 0.2

_idle: dict[str, list[Worker]] = {}  # this process's idle workers, with the model loaded, by settings and limits
_lock = threading.Lock()


class ClusterPool:
    """The workers of a cluster as a `lnq.batch.workers.pool.Pool`."""

    def __init__(self, settings: WorkerSettings, limits: CaseLimits, address: str, stop: threading.Event) -> None:
        self._own_settings = settings
        self._settings, self._limits = to_plain(settings), to_plain(limits)
        self._address = address
        self._stop = stop
        self._client: Any = None

    def start(self) -> Versions:
        """Connect, and have one worker load the model. Raises StartError where either fails, Stopped when told to."""
        try:
            from distributed import Client
        except ImportError:
            raise StartError("--scheduler needs the package distributed: install the extra lnq[cluster]") from None
        try:
            self._client = Client(self._address, timeout=_CONNECT_SECONDS, set_as_default=False)
            self._client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError, TimeoutError) as error:
            raise StartError(f"No Dask cluster with a worker answers at {self._address}: {error}") from None
        loading = self._client.submit(_versions, self._settings, self._limits, pure=False)
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        loading.add_done_callback(done.put)
        try:
            versions = from_plain(Versions, self._next(done, [loading]).result())
        except (TypeError, ValueError) as error:  # the workers do not know these settings
            raise StartError(f"The cluster's workers have another version than this, {__version__}: {error}") from None
        if versions.lnq != __version__:
            raise StartError(f"The cluster's workers have version {versions.lnq}, this is {__version__}")
        return versions

    def run(self, cases: Sequence[Case]) -> Iterator[CaseRecord]:
        """See `Pool`. A case that loses its worker is tried on another, three times, and then fails."""
        plain = [to_tagged(case) for case in cases]
        futures = self._client.map(_run, plain, settings=self._settings, limits=self._limits, pure=False)
        by_key = dict(zip((future.key for future in futures), cases, strict=True))
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for future in futures:
            future.add_done_callback(done.put)
        for _ in futures:
            future = self._next(done, futures)
            yield self._record(future, by_key[future.key])

    def _next(self, done: queue.SimpleQueue[Any], futures: list[Any]) -> Any:
        """The next future that is done. Raises Stopped when the run is told to stop."""
        while True:
            if self._stop.is_set():
                self._client.cancel(futures)
                raise Stopped
            try:
                return done.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue

    def _record(self, future: Any, case: Case) -> CaseRecord:
        try:
            return CaseRecord.from_plain(future.result())
        except Exception as error:
            kind = Words(type(error).__name__)
            sentence = "{subject} could not be segmented: the cluster says {kind}"
            return record_of_failure(
                case, self._own_settings, Message(sentence, subject=case.path.name, kind=kind), seconds=0.0
            )

    def close(self) -> None:
        """Disconnect from the cluster. Its workers keep running."""
        if self._client is not None:
            self._client.close()


def _run(case: dict[str, Any], settings: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Run one case on a cluster's worker, in a process of its own that has the model loaded."""
    worker = _take(settings, limits)
    try:
        return worker.run(from_tagged(KINDS, case)).plain()
    finally:
        _give_back(worker, settings, limits)


def _versions(settings: dict[str, Any], limits: dict[str, Any]) -> dict[str, str]:
    worker = _take(settings, limits)
    versions = worker.versions or worker.start()
    _give_back(worker, settings, limits)
    return versions.plain()


def _take(settings: dict[str, Any], limits: dict[str, Any]) -> Worker:
    with _lock:
        key = json.dumps([settings, limits])
        for other in [k for k in _idle if k != key]:  # workers of runs that are over
            for worker in _idle.pop(other):
                worker.close()
        idle = _idle.get(key, [])
        return idle.pop() if idle else Worker(from_plain(WorkerSettings, settings), from_plain(CaseLimits, limits))


def _give_back(worker: Worker, settings: dict[str, Any], limits: dict[str, Any]) -> None:
    with _lock:
        _idle.setdefault(json.dumps([settings, limits]), []).append(worker)
