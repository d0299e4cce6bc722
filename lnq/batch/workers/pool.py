"""Worker processes on this machine, each with one case at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from lnq.archive.case import Case
from lnq.batch.settings import CaseLimits, WorkerSettings
from lnq.batch.workers.worker import Worker
from lnq.results.case_record import CaseRecord, Versions


class Pool(Protocol):
    """A set of workers that segment cases."""

    def start(self) -> Versions:
        """Load the model. Returns the versions that every result carries.

        Raises StartError where the model cannot be loaded, Stopped when told to stop.
        """

    def run(self, cases: Sequence[Case]) -> Iterator[CaseRecord]:
        """Yield the cases' records in the order in which they finish. Raises Stopped when told to stop."""

    def close(self) -> None:
        """Let go of all workers. May be called twice."""


class LocalPool:
    """Worker processes on this machine."""

    def __init__(self, settings: WorkerSettings, limits: CaseLimits, workers: int, stop: threading.Event) -> None:
        self._workers = [Worker(settings, limits, stop.is_set) for _ in range(workers)]
        self._stop = stop

    def start(self) -> Versions:
        """See `Pool`. Only one worker starts here; the others start with their first case."""
        return self._workers[0].start()

    def run(self, cases: Sequence[Case]) -> Iterator[CaseRecord]:
        """See `Pool`."""
        waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
        done: queue.SimpleQueue[CaseRecord | Exception] = queue.SimpleQueue()
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
        self._stop.set()  # otherwise a thread would replace the worker that is closed here
        for worker in self._workers:
            worker.close()


def _work_off(
    worker: Worker, waiting: queue.SimpleQueue[Case], done: queue.SimpleQueue[CaseRecord | Exception]
) -> None:
    """The work of one thread: one case after another, until none is waiting or the run stops."""
    try:
        while True:
            done.put(worker.run(waiting.get_nowait()))
    except queue.Empty:
        worker.close()
    except Exception as error:
        done.put(error)
