"""The process that segments a batch's cases: it loads the model once, and then takes one case after another.

    python -m lnq.batch.workers.worker_process FD

FD is one end of a pair of connected sockets. Messages are JSON. The first one holds the settings, and the path of a
folder for unfinished results. The answer holds the versions, or a sentence that says why the model cannot be loaded.
Each later message is a case, and the answer is its record. The process ends as soon as the other end closes, even in
the middle of a case, so that it never outlives the process that it works for.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lnq.errors import BundleError
from lnq.text import start_logging


def _listen(connection: Connection, messages: queue.SimpleQueue[Any]) -> None:
    """Pass on the messages that arrive, and end this process when the connection ends."""
    while True:
        try:
            messages.put(json.loads(connection.recv_bytes()))
        except (EOFError, OSError):
            os._exit(0)


def main(descriptor: int) -> None:
    """Work until the connection on this file descriptor ends."""
    start_logging(sys.stderr)
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

    first = messages.get()
    settings, scratch = from_plain(WorkerSettings, first["settings"]), Path(first["scratch"])
    if settings.umask is not None:
        os.umask(settings.umask)
    try:
        threads = settings.threads or None
        given = settings.precision, settings.mirror, settings.members
        model = load_model(settings.bundle, settings.device, threads, *given)
    except (BundleError, ValueError) as error:
        answer({"problem": str(error)})
        return
    versions = Versions.of(model)
    answer({"versions": versions.plain(), "note": model.note})
    while True:
        case = from_tagged(KINDS, messages.get())
        answer(run_case(case, model, settings, versions, scratch).plain())


if __name__ == "__main__":
    main(int(sys.argv[1]))
