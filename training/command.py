"""What the training commands share: one sentence and an exit status in place of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console

from lnq.errors import BundleError, cause_of

STOPPED = 143
"""Exit status of a run that a signal ended after its checkpoint, as the shell would give for SIGTERM."""


def plain_console(quiet: bool = False, stderr: bool = True) -> Console:
    """A console that prints what it is given as it is: names and reasons may hold what would be its markup."""
    return Console(stderr=stderr, quiet=quiet, soft_wrap=True, markup=False, highlight=False)


def run_command(work: Callable[[], bool]) -> int:
    """Run `work`; returns 0 where it returns True, 143 where it was stopped, 2 where it failed, with one sentence."""
    try:
        return 0 if work() else STOPPED
    except (ValueError, OSError, RuntimeError, BundleError) as error:
        told = cause_of(error) if isinstance(error, OSError) and error.errno else error
        print(f"Error: {told}", file=sys.stderr)
        return 2


def run_over_cases(work: Callable[[], bool]) -> int:
    """Run `work`; returns 0 where it returns True, 1 where it left out a case, 2 where it failed, with one sentence."""
    complete = True

    def whole() -> bool:
        nonlocal complete
        complete = work()
        return True

    return run_command(whole) or int(not complete)
