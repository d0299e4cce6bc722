"""The process that segments a batch's cases: loads the model once, and then does what it is told.

    python -m lnq.batch.worker_process FD

FD is one end of a pair of connected sockets. Messages are JSON: first the settings, answered by what was loaded or a
sentence that says why not; then a case at a time, answered by its record. It ends when the other end is
closed, in the middle of a case too: nothing goes on after the process that it works for is gone.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from lnq.errors import BundleError


def _listen(connection: Connection, messages: queue.SimpleQueue[Any]) -> None:
    """Pass on what comes in, and end this process with the connection."""
    while True:
        try:
            messages.put(json.loads(connection.recv_bytes()))
        except (EOFError, OSError):
            os._exit(0)


def main(descriptor: int) -> None:
    """Work until the connection ends."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    connection = Connection(descriptor)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, messages), daemon=True).start()

    def answer(message: dict[str, Any]) -> None:
        connection.send_bytes(json.dumps(message).encode())

    from lnq.archive.case import KINDS
    from lnq.batch.case import run_case
    from lnq.batch.settings import WorkerSettings
    from lnq.inference.backends import load_model
    from lnq.plain import from_plain, from_tagged
    from lnq.results.case_record import Versions

    settings = from_plain(WorkerSettings, messages.get())
    try:
        threads = settings.threads or None
        model = load_model(settings.bundle, settings.device, threads, settings.precision, settings.mirror)
    except (BundleError, ValueError) as error:
        answer({"problem": str(error)})
        return
    versions = Versions.of(model)
    answer({"versions": versions.plain()})
    while True:
        case = from_tagged(KINDS, messages.get())
        answer(run_case(case, model, settings, versions).plain())


if __name__ == "__main__":
    main(int(sys.argv[1]))
