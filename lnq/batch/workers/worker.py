"""Start and watch worker processes. A case that takes too long, takes too much memory or crashes ends alone."""

from __future__ import annotations

import functools
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import IO, Any

from lnq.archive.case import Case
from lnq.batch.case import clear_scratch, scratch_folder
from lnq.batch.record import record_of_failure
from lnq.batch.settings import CaseLimits, WorkerSettings
from lnq.errors import Message, StartError, Stopped, Words
from lnq.plain import from_plain, to_plain, to_tagged
from lnq.results.case_record import CaseRecord, Versions

_ROOT = Path(__file__).resolve().parents[3]
_POLL_SECONDS = 0.1
_START_SECONDS = 300.0  # loading a GPU's libraries from a slow disk takes a while

logger = logging.getLogger(__name__)


class Worker:
    """One worker process. It starts when first needed, and again after it has ended."""

    def __init__(
        self, settings: WorkerSettings, limits: CaseLimits, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._stopping = stopping
        self._scratch = scratch_folder(settings, secrets.token_hex(8))
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None
        self._closing = threading.Lock()
        self.versions: Versions | None = None  # None until the model is loaded

    def start(self) -> Versions:
        """Start the process and have it load the model. Returns the versions of program and model.

        Raises StartError where either fails, Stopped when told to stop.
        """
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "lnq.batch.workers.worker_process", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
            cwd=_ROOT,
            start_new_session=True,  # a terminal's Ctrl-C reaches the run alone, which then ends its workers
        )
        theirs.close()
        self._connection = ours
        target = _drop_lines if self._settings.private else _log_lines  # the process's output may show paths
        threading.Thread(target=target, args=(self._process.stdout,), daemon=True).start()
        self._send({"settings": to_plain(self._settings), "scratch": str(self._scratch)})
        answer, problem = self._wait(CaseLimits(_START_SECONDS))
        if answer is None:
            self.close()
            raise StartError(f"The worker process could not start: it {problem}")
        if "problem" in answer:
            self.close()
            raise StartError(answer["problem"])
        self.versions = from_plain(Versions, answer["versions"])
        _say_once(answer["note"])
        return self.versions

    def run(self, case: Case) -> CaseRecord:
        """Have the process segment a case. Returns its record.

        A case that ends without an answer gets a record of failure. Raises Stopped when told to stop, and StartError as
        `start` does.
        """
        if self._process is None:
            self.start()
        begun = time.perf_counter()
        self._send(to_tagged(case))
        answer, problem = self._wait(self._limits)
        if answer is not None:
            return CaseRecord.from_plain(answer)
        self.close()
        sentence = Message(
            "{subject} could not be segmented: it {problem}", subject=case.path.name, problem=Words(problem)
        )
        seconds = round(time.perf_counter() - begun, 2)
        return record_of_failure(case, self._settings, sentence, seconds, self.versions)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError:  # the process has ended, which _wait will report
            return

    def _wait(self, limits: CaseLimits) -> tuple[dict[str, Any] | None, str]:
        """The process's answer, or None and the end of a sentence that says what happened instead."""
        process = self._process
        if process is None:  # the run has ended
            raise Stopped
        end = time.monotonic() + (limits.seconds or float("inf"))
        while True:
            if self._stopping():
                self.close()
                raise Stopped
            try:
                if self._connection.poll(_POLL_SECONDS):
                    return json.loads(self._connection.recv_bytes()), ""
            except (EOFError, OSError):
                return None, _ending(process.wait())
            if time.monotonic() > end:
                return None, f"took longer than {limits.seconds:g} s"
            if limits.memory_gb and resident_gb(process.pid) > limits.memory_gb:
                return None, f"took more than {limits.memory_gb:g} GB of memory"

    def close(self) -> None:
        """End the process at once, and remove what it was working on. Any thread may call this."""
        with self._closing:
            if self._process is None:
                return
            process, self._process = self._process, None
            process.kill()
            process.wait()
            clear_scratch(self._scratch)


@functools.cache
def _say_once(note: str | None) -> None:
    """Warn of what a worker says of its device. All workers of a machine say the same."""
    if note:
        logger.warning("%s", note)


def resident_gb(pid: int) -> float:
    """Resident memory of a process, in 1e9 bytes; 0 where it is not known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def _ending(status: int) -> str:
    """The end of a sentence that says how a process ended, from its exit status."""
    if status == -signal.SIGKILL:
        return "was killed, for memory as a rule"
    if status < 0:
        return f"crashed ({signal.Signals(-status).name})"
    return f"ended its process with status {status}"


def _drop_lines(stream: IO[bytes]) -> None:
    for _ in stream:
        pass


def _log_lines(stream: IO[bytes]) -> None:
    for line in stream:
        logger.warning(line.decode(errors="replace").rstrip())
