"""One run at a time in an output folder, and the folder in which it prepares its results.

A run's work folder bears a name of its own and is locked as long as the run lives. So a later run removes what a killed
one has left, and never the work of one that is still going, even where someone deleted the output folder's lock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lnq.batch.case import REPLACED, WORK_FOLDER
from lnq.batch.record import CASE_JSON
from lnq.errors import StartError

_LOCK = ".lnq-lock"  # in the output folder, and in each run's work folder

logger = logging.getLogger(__name__)


@contextmanager
def alone(output: Path, run: str) -> Iterator[None]:
    """Lock the output folder for the run of this name, remove what killed runs have left, and make its work folder.

    Raises StartError where another run goes on, where links stand in the place of lock or work folder, and where
    nothing can be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(output))
            stack.enter_context(_work_folder(output, run))
        except OSError as error:
            raise StartError(f"The output folder {output} cannot be written: {error.strerror or error}") from None
        yield


@contextmanager
def _work_folder(output: Path, run: str) -> Iterator[None]:
    """Make this run's work folder, and remove those of killed runs before and its own afterwards."""
    work = output / WORK_FOLDER
    with suppress(FileExistsError):
        work.mkdir(mode=0o700)
    if not stat.S_ISDIR(work.lstat().st_mode):
        raise StartError(f"{work} is not a folder: remove it")
    _remove_leftovers(output)
    own = work / run
    own.mkdir()
    try:
        with _lock_of(own):
            yield
    finally:
        _clear(own, output)
        with suppress(OSError):
            work.rmdir()


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Lock the folder itself, and a file in it: one of the two works on every file system that has locks."""
    busy = StartError(f"Another run is writing to {output}: wait for it, or choose another folder")
    folder = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(_NoLocks):
            if not _try_lock(folder):
                raise busy
        try:
            with _held(output / _LOCK) as locked:
                if not locked:
                    raise busy
                yield
        except _NoLocks:
            logger.warning("The output's file system has no locks: do not start a second run on this folder")
            yield
    finally:
        os.close(folder)


@contextmanager
def _lock_of(work: Path) -> Iterator[None]:
    """Hold a work folder's lock, where the file system has any."""
    with suppress(_NoLocks), ExitStack() as stack:
        stack.enter_context(_held(work / _LOCK))
        yield
        return
    yield


class _NoLocks(Exception):
    """The file system has no locks."""


def _try_lock(descriptor: int) -> bool:
    """Whether the lock was free and is now ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        raise _NoLocks from None
    return True


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a lock file, which is made where it is missing. Yields False where another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StartError(f"{path} is a link: remove it") from None
        raise
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(output: Path) -> None:
    """Remove what killed runs had not finished."""
    for work in (output / WORK_FOLDER).iterdir():
        with suppress(OSError, _NoLocks), _held(work / _LOCK) as dead:
            if dead:
                _clear(work, output)
    for part in output.glob(".*.part-*"):
        part.unlink(missing_ok=True)


def _clear(work: Path, output: Path) -> None:
    """Remove a run's work folder. Earlier results that were about to be replaced go back into their places first."""
    for earlier in work.glob(f"*/*/{REPLACED}"):
        if not _bring_back(earlier, output):
            return
    shutil.rmtree(work, ignore_errors=True)


def _bring_back(earlier: Path, output: Path) -> bool:
    """Put an earlier result back where it has no successor. False where that cannot be done now."""
    try:
        name = json.loads((earlier / CASE_JSON).read_text())["case"]
        if Path(name).name == name and not (output / name).exists():
            os.rename(earlier, output / name)
    except OSError:
        return False
    except (ValueError, LookupError, TypeError):  # no result
        return True
    return True
