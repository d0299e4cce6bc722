"""Functions run in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    """The results of `work`, a function of a module, as they come; with one process or less this one does the work.

    Raises what `work` raises, and BrokenProcessPool where a process was ended from outside.
    """
    if processes <= 1:
        yield from map(work, items)
    else:
        yield from in_fresh_processes(work, items, processes)


def in_fresh_processes(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    """The same, also for one process. What is not yet begun is given up where the caller takes no more results."""
    # Processes are started afresh: SimpleITK's threads do not survive a fork.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        for job in as_completed([pool.submit(work, item) for item in items]):
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)
