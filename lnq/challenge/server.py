"""The container as a server, which grand-challenge calls *invoke*: the model is loaded once, and called case by case.

    GET /health     200 once the model is loaded, 503 before
    POST /invoke    segments what lies in the input folder; 201 when masks and results.json are written

What a call could not do is its answer, one sentence: 422 for its CT or what lies in its folders, 500 for all else. One
call runs at a time, another gets 409. All work is done in the main thread, so that a signal ends it as it ends the
container that runs once.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waitress.server import create_server

from lnq.challenge.container import run_container
from lnq.errors import StartError
from lnq.text import on_one_line

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from lnq.inference.backends import Model

HOST, PORT = "127.0.0.1", 4743  # the port is the platform's
_THREADS = 4  # so that health is answered while a call runs
_LARGEST_BODY = 1 << 20  # bytes; bodies are not read
_FAREWELL_SECONDS = 2.0  # for the answer to a call that a signal ends; the platform leaves 5

logger = logging.getLogger(__name__)
logging.getLogger("waitress").setLevel(logging.ERROR)  # a client that goes away is no warning to the user


@dataclass
class _Call:
    """A call that waits for the main thread."""

    done: threading.Event = field(default_factory=threading.Event)
    status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE
    sentence: str = "Stopped before this call was done"

    def answer(self, status: HTTPStatus, sentence: str) -> None:
        """Let the client have its answer."""
        self.status, self.sentence = status, sentence
        self.done.set()


class Application:
    """The WSGI application. It hands calls to whoever takes them from `calls`."""

    def __init__(self) -> None:
        self.ready = False
        self.calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._running = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, sentence, headers = self._respond(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        body = f"{on_one_line(sentence)}\n".encode(errors="backslashreplace")
        headers += [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    def _respond(self, method: str, path: str) -> tuple[HTTPStatus, str, list[tuple[str, str]]]:
        allowed = {"/health": ("GET", "HEAD"), "/invoke": ("POST",)}.get(path)
        if allowed is None:
            return HTTPStatus.NOT_FOUND, "There is /health and /invoke", []
        if method not in allowed:
            return HTTPStatus.METHOD_NOT_ALLOWED, f"{path} takes {allowed[0]}", [("Allow", ", ".join(allowed))]
        if not self.ready:
            return HTTPStatus.SERVICE_UNAVAILABLE, "The model is not loaded yet", []
        if path == "/health":
            return HTTPStatus.OK, "Ready", []
        if not self._running.acquire(blocking=False):
            return HTTPStatus.CONFLICT, "Another call is running: one at a time", []
        try:
            call = _Call()
            self.calls.put(call)
            call.done.wait()
        finally:
            self._running.release()
        return call.status, call.sentence, []


def serve(load_model: Callable[[], Model], source: Path, output: Path, host: str = HOST, port: int = PORT) -> None:
    """Serve until a signal comes, which is raised. CTs lie below `source`, masks go below `output`.

    Raises StartError where the address cannot be listened on, and what `load_model` raises.
    """
    application = Application()
    server = _listen(application, host, port)
    threading.Thread(target=server.run, name="server", daemon=True).start()
    try:
        model = load_model()
        application.ready = True
        logger.info(
            "Ready at http://%s:%s", host, getattr(server, "effective_port", port)
        )  # several addresses have none
        while True:
            _answer(application.calls.get(), lambda: run_container(lambda: model, source, output))
    finally:
        server.task_dispatcher.shutdown(timeout=_FAREWELL_SECONDS)


def _listen(application: Application, host: str, port: int) -> Any:
    if not 0 <= port < 65536:
        raise StartError(f"A port is a number from 0 to 65535, not {port}")
    try:
        return create_server(
            application, host=host, port=port, threads=_THREADS, max_request_body_size=_LARGEST_BODY, ident=None
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StartError(f"Cannot listen on {host}, port {port}: {reason}") from None


def _answer(call: _Call, work: Callable[[], list[str]]) -> None:
    """Do a call's work, and answer it whatever comes. A signal is raised, all else is the call's alone."""
    try:
        failures = work()
    except StartError as error:
        logger.error("%s", error)
        call.answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    except Exception as error:
        logger.exception("Unforeseen error")
        call.answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"Stopped by an unforeseen {type(error).__name__}: {error}")
    except BaseException:
        call.done.set()
        raise
    else:
        if failures:  # each was logged, the last one last
            call.answer(HTTPStatus.UNPROCESSABLE_ENTITY, failures[-1])
        else:
            call.answer(HTTPStatus.CREATED, "Done: masks and results.json are written")
