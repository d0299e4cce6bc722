"""Run a function on many items, each in a process of a pool."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed  # noqa: TID251
from functools import partial
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    """Yield the results of `work` as they are done. With `processes` below 2, it runs in this process, in order.

    `work` must be a module's function. Raises what it raises, and BrokenProcessPool where a process was killed.
    """
    if processes <= 1:
        yield from map(work, items)
    else:
        yield from in_fresh_processes(work, items, processes)


def in_fresh_processes(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    """Like `side_by_side`, but in new processes even for one. If the caller stops early, pending items are dropped."""
    _refuse_unfindable(work)
    # Processes are spawned, not forked: SimpleITK's threads do not survive a fork.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        for job in as_completed([pool.submit(work, item) for item in items]):
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_unfindable(work: Callable[..., Any]) -> None:
    """Raise ValueError for a function of a package's `__main__`: new processes do not import that module."""
    function = work.func if isinstance(work, partial) else work
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if getattr(function, "__module__", "") == "__main__" and spec is not None and spec.name.endswith(".__main__"):
        raise ValueError(f"New processes cannot find a function of {spec.name}: define it in another module")
