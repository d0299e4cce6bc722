"""SIGINT and SIGTERM, which ask the process to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_go_to(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have `handler` called for a signal. Outside the main thread, which alone can do so, nothing changes.

    A signal whose handler was not set from Python, and so could not be restored, keeps it.
    """
    with ExitStack() as restored:  # it restores all, also where an earlier handler raises as soon as it is back
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if (earlier := signal.getsignal(number)) is not None:
                    restored.callback(signal.signal, number, earlier)
                    signal.signal(number, handler)
        yield


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals back until the block has ended: for steps that belong together, and are short.

    Then the first of them comes. As every one asks the process to stop, the others are dropped.
    """
    held: list[int] = []
    try:
        with signals_go_to(lambda number, _frame: held.append(number)):
            yield
    finally:
        for number in held[:1]:
            signal.raise_signal(number)
