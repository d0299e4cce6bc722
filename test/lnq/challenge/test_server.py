"""The server's answers, with a stand-in for the work; test/system runs it as a process with real CTs."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lnq.challenge import server
from lnq.errors import StartError

Reply = tuple[int, str]


class End(BaseException):
    """As a signal's exception."""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[Callable[[], list[str]]]:
    """What the next calls do."""
    tasks: queue.SimpleQueue[Callable[[], list[str]]] = queue.SimpleQueue()
    monkeypatch.setattr(server, "run_container", lambda *_: tasks.get()())
    return tasks


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def request(port: int, method: str, path: str, body: bytes = b"") -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()


def wait_until_ready(port: int) -> None:
    for _ in range(400):
        with contextlib.suppress(OSError):
            if request(port, "GET", "/health")[0] == 200:
                return
        threading.Event().wait(0.02)
    pytest.fail("never ready")


@pytest.fixture
def running(work: Any, port: int, tmp_path: Path) -> Iterator[int]:
    """The port of a server that is ready; a call that raises End ends it."""

    def run() -> None:
        with contextlib.suppress(End):
            server.serve(lambda: SimpleNamespace(), tmp_path, tmp_path, port=port)  # type: ignore[arg-type,return-value]

    thread = threading.Thread(target=run)
    thread.start()
    wait_until_ready(port)
    yield port
    if thread.is_alive():
        work.put(end)
        with contextlib.suppress(OSError, http.client.HTTPException):
            request(port, "POST", "/invoke")
    thread.join(10)
    assert not thread.is_alive()


def end() -> list[str]:
    raise End


def fail(error: Exception) -> Callable[[], list[str]]:
    def task() -> list[str]:
        raise error

    return task


def test_a_call_that_succeeds_is_created(running: int, work: Any) -> None:
    work.put(list)
    assert request(running, "POST", "/invoke", b"{}") == (201, "Done: masks and results.json are written\n")


@pytest.mark.parametrize(
    ("task", "reply"),
    [
        (lambda: ["a.mha cannot be read: it is empty"], (422, "a.mha cannot be read: it is empty\n")),
        (fail(StartError("No CT found in /input")), (422, "No CT found in /input\n")),
        (fail(RuntimeError("no\nway")), (500, "Stopped by an unforeseen RuntimeError: no way\n")),
        (fail(OSError("no space")), (500, "Stopped by an unforeseen OSError: no space\n")),
    ],
)
def test_a_call_that_fails_is_told_why_and_the_next_one_works(
    running: int, work: Any, task: Callable[[], list[str]], reply: Reply
) -> None:
    work.put(task)
    work.put(list)
    assert request(running, "POST", "/invoke") == reply
    assert request(running, "POST", "/invoke")[0] == 201


def test_health_is_answered_while_a_call_runs_and_a_second_call_is_refused(running: int, work: Any) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> list[str]:
        begun.set()
        assert go_on.wait(20)
        return []

    work.put(slow)
    replies: list[Reply] = []
    call = threading.Thread(target=lambda: replies.append(request(running, "POST", "/invoke")))
    call.start()
    assert begun.wait(20)
    assert request(running, "GET", "/health") == (200, "Ready\n")
    assert request(running, "POST", "/invoke") == (409, "Another call is running: one at a time\n")
    go_on.set()
    call.join(20)
    assert replies == [(201, "Done: masks and results.json are written\n")]


@pytest.mark.parametrize(
    ("method", "path", "reply"),
    [
        ("GET", "/", (404, "There is /health and /invoke\n")),
        ("POST", "/invoke/", (404, "There is /health and /invoke\n")),
        ("GET", "/invoke", (405, "/invoke takes POST\n")),
        ("POST", "/health", (405, "/health takes GET\n")),
    ],
)
def test_what_is_not_served_is_said(running: int, method: str, path: str, reply: Reply) -> None:
    assert request(running, method, path) == reply


def test_a_body_that_is_too_large_is_not_read(running: int) -> None:
    with contextlib.suppress(ConnectionError):  # it may close while the body is sent
        assert request(running, "POST", "/invoke", b"x" * (2 << 20))[0] == 413
    assert request(running, "GET", "/health")[0] == 200


def test_a_signal_ends_the_server_and_answers_its_call(running: int, work: Any) -> None:
    work.put(end)
    assert request(running, "POST", "/invoke") == (503, "Stopped before this call was done\n")


def test_until_the_model_is_loaded_nothing_is_ready(port: int, tmp_path: Path) -> None:
    seen: list[Reply] = []

    def load() -> Any:
        seen.extend(request(port, method, path) for method, path in (("GET", "/health"), ("POST", "/invoke")))
        raise End

    with pytest.raises(End):
        server.serve(load, tmp_path, tmp_path, port=port)
    assert seen == [(503, "The model is not loaded yet\n")] * 2


def test_an_address_that_cannot_be_listened_on_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"^Cannot listen on 127.0.0.1, port {port}: Address already in use$"):
            server.serve(lambda: pytest.fail("loaded"), tmp_path, tmp_path, port=port)
    with pytest.raises(StartError, match="^A port is a number from 0 to 65535, not 99999$"):
        server.serve(lambda: pytest.fail("loaded"), tmp_path, tmp_path, port=99999)
    with pytest.raises(StartError, match="^Cannot listen on nowhere.invalid, port 4743: "):
        server.serve(lambda: pytest.fail("loaded"), tmp_path, tmp_path, host="nowhere.invalid")


def test_by_default_only_this_machine_is_listened_to() -> None:
    assert (server.HOST, server.PORT) == ("127.0.0.1", 4743)
