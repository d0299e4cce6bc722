"""Run a scenario again and again, and have another operation on its files fail each time.

The scenario runs in processes forked from one that has imported everything, so that a run takes a fraction of a second.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from helpers.paths import ROOT

HERE = Path(__file__).parent
_FEW = 2  # of the operations, where a test is not slow
ONCE, SHORT, FROM_THEN_ON = range(3)
KINDS = {  # name: errno and mode
    "full disk": (errno.ENOSPC, FROM_THEN_ON),
    "no space once": (errno.ENOSPC, ONCE),
    "input/output error": (errno.EIO, ONCE),
    "permission denied": (errno.EACCES, ONCE),
    "short write": (errno.ENOSPC, SHORT),
}


class _Faults(ctypes.Structure):
    """As in faults.c."""

    _fields_ = (
        ("count", ctypes.c_long),
        ("at", ctypes.c_long),
        ("error", ctypes.c_int),
        ("mode", ctypes.c_int),
        ("root", ctypes.c_char * 4000),
    )


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    status: int  # its exit status; negative where a signal ended it
    said: str  # the last line that it wrote to stderr
    operations: int  # on the files below the root


def build(folder: Path) -> Path:
    """Compile the library that makes operations fail. Raises OSError where there is no C compiler."""
    library = folder / "faults.so"
    command = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", library, HERE / "faults.c", "-ldl"]
    subprocess.run(command, check=True)
    return library


class Injector:
    """A process that runs one scenario of `helpers.faults.scenarios`, as often as it is asked to."""

    def __init__(self, library: Path, folder: Path, scenario: str, root: Path) -> None:
        self._shared = folder / f"faults-{scenario}"
        self._shared.write_bytes(bytes(ctypes.sizeof(_Faults)))
        self._root = root
        environment = os.environ | {
            "LD_PRELOAD": str(library), "FAULTS": str(self._shared), "PYTHONPATH": f"{ROOT}:{ROOT / 'test'}",
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.faults.scenarios", scenario],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )

    def run(self, *arguments: object, at: int = 0, kind: str = "full disk") -> Outcome:
        """Run the scenario. Operation number `at` fails; none does where it is 0."""
        error, mode = KINDS[kind]
        never = 2**62  # operations are counted all the same
        with open(self._shared, "r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
            faults = _Faults.from_buffer(shared)
            faults.count, faults.at, faults.error, faults.mode = 0, at or never, error, mode
            faults.root = os.fsencode(self._root)
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.write(json.dumps([str(value) for value in arguments]) + "\n")
            self._process.stdin.flush()
            status, said = json.loads(self._process.stdout.readline())
            count = faults.count
            faults.at = 0
            del faults
        return Outcome(status, said, count)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def serve(scenario: Callable[[list[str]], int]) -> None:
    """Run the scenario in a forked process for each line of arguments, and answer with its status and last words."""
    for line in sys.stdin:
        said = Path(os.environ["FAULTS"]).with_suffix(".stderr")
        process = os.fork()
        if process == 0:
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = 99
            try:
                status = scenario(json.loads(line))
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, ended = os.waitpid(process, 0)
        lines = said.read_text(errors="replace").splitlines() or [""]
        print(json.dumps([os.waitstatus_to_exitcode(ended), lines[-1]]), flush=True)


def start_again(folder: Path, before: Path) -> None:
    """Make `folder` as `before` is."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder, symlinks=True)


class Faulty(Protocol):
    """A command whose files are made to fail."""

    scenario: str
    output: Path  # its files lie below this folder

    def prepare(self, made: Injector) -> int:
        """Make earlier results, and run it once without a fault. Returns the number of operations."""

    def faulty(self, made: Injector, at: int, kind: str) -> Outcome:
        """Run it over the earlier results with a fault."""

    def check(self, outcome: Outcome) -> None:
        """Check that nothing is lost and nothing called done that is not whole."""

    def again(self, made: Injector) -> None:
        """Check that the next run completes."""


def check_all(command: Faulty, library: Path, folder: Path, kind: str, few: bool) -> None:
    """Have each operation of a command fail in turn, or a few from the first to the last."""
    made = Injector(library, folder, command.scenario, command.output)
    try:
        count = command.prepare(made)
        step = max(1, count // _FEW) if few else 1
        for at in range(1, count + 1, step):
            outcome = command.faulty(made, at, kind)
            try:
                _check_words(outcome)
                command.check(outcome)
                if kind == "full disk":
                    command.again(made)
            except AssertionError as error:
                raise AssertionError(f"operation {at} of {count}: {outcome}: {error}") from error
    finally:
        made.close()


def _check_words(outcome: Outcome) -> None:
    """The command ended by itself and said in one sentence why."""
    assert outcome.status in (0, 1, 2)
    assert outcome.said or outcome.status == 0
    for word in ("Traceback", "unforeseen", "Errno"):
        assert word not in outcome.said
