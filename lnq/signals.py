"""SIGINT and SIGTERM, which ask the process to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_go_to(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have `handler` called for a signal. Outside the main thread, which alone can do so, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals back until the block has ended: for steps that belong together, and are short."""
    held: list[int] = []
    try:
        with signals_go_to(lambda number, _frame: held.append(number)):
            yield
    finally:
        for number in held[:1]:
            signal.raise_signal(number)
