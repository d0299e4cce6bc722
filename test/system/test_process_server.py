"""`process.py serve` as grand-challenge runs it: a process of its own, real CTs, a signal."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.paths import ROOT

from lnq import cli
from lnq.image.itk import write_volume
from lnq.image.volume import Volume

MASKS = Path("images") / "mediastinal-lymph-node-segmentation"


@dataclass
class Server:
    """A running server with its folders. `lines` is what it has said."""

    process: subprocess.Popen[str]
    source: Path
    output: Path
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Collect what the process says; returns when it is ready."""
        ready = threading.Event()

        def collect() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                self.lines.append(line.rstrip("\n"))
                if found := re.search(r"Ready at http://127\.0\.0\.1:(\d+)$", line):
                    self.port = int(found[1])
                    ready.set()
            ready.set()

        threading.Thread(target=collect, daemon=True).start()
        assert ready.wait(120) and self.port, self.lines

    def invoke(self) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request("POST", "/invoke", b"")
            response = connection.getresponse()
            return response.status, response.read().decode()

    def mount(self, *cts: Path) -> None:
        """Empty both folders, as the platform does between calls, and mount CTs."""
        for folder in (self.source, self.output):
            shutil.rmtree(folder, ignore_errors=True)
        folder = self.source / "images" / "mediastinal-ct"
        folder.mkdir(parents=True)
        self.output.mkdir()
        for ct in cts:
            shutil.copy(ct, folder)


@pytest.fixture
def server(tmp_path: Path, tiny_bundle: Path) -> Iterator[Server]:
    source, output = tmp_path / "in", tmp_path / "out"
    options = ["--input", source, "--output", output, "--model", tiny_bundle, "--device", "cpu"]
    command = [sys.executable, ROOT / "process.py", "serve", "--port", "0", *options]
    environment = {name: value for name, value in os.environ.items() if name != "LNQ_HOST"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    running = Server(process, source, output)
    running.listen()
    yield running
    process.kill()
    process.wait()


@pytest.fixture
def cts(tmp_path: Path, make_thorax: Callable[..., Volume]) -> list[Path]:
    """Two CTs that differ, and a file that is none."""
    for name, blood in (("a", 160), ("b", 40)):
        write_volume(make_thorax(blood_hu=blood), tmp_path / f"{name}.mha")
    (tmp_path / "bad.mha").write_text("no image")
    return [tmp_path / f"{name}.mha" for name in ("a", "b", "bad")]


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_calls_write_what_one_run_writes_and_a_bad_ct_leaves_the_next_one_alone(
    server: Server, cts: list[Path], tiny_bundle: Path
) -> None:
    assert "Runs on openvino on cpu" in server.lines[0]
    options = ["--input", str(server.source), "--output", str(server.output), "--model", str(tiny_bundle)]
    for ct in (cts[0], cts[1], cts[2], cts[0]):
        server.mount(ct)
        status, sentence = server.invoke()
        served = contents(server.output)
        server.mount(ct)
        assert cli.main(["exec", *options, "--device", "cpu"]) == (1 if ct.name == "bad.mha" else 0)
        assert served == contents(server.output)
        if ct.name == "bad.mha":
            assert status == 422 and sentence.startswith("bad.mha cannot be read: ")
            assert server.lines[-1].endswith(sentence.rstrip())
            assert json.loads(served["results.json"])[0]["error_messages"] == [sentence.rstrip()]
        else:
            assert status == 201 and str(MASKS / ct.name) in served
            versions = json.loads(served["results.json"])[0]["versions"]
            assert (versions["backend"], versions["device"]) == ("openvino", "cpu")
    server.mount()
    assert server.invoke() == (
        422, f"No CT found in {server.source}/images/mediastinal-ct: one image file is needed there\n",
    )  # fmt: skip


def test_sigterm_ends_an_idle_server_and_says_so(server: Server) -> None:
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 143
    assert time.monotonic() - begun < 5
    time.sleep(0.2)
    assert server.lines[-1] == "Stopped by a signal: finished cases are kept"


def test_sigterm_in_a_call_answers_it_and_keeps_what_is_done(server: Server, cts: list[Path]) -> None:
    server.mount(cts[0])
    folder = server.source / "images" / "mediastinal-ct"
    for number in range(60):
        os.link(folder / "a.mha", folder / f"{number:02d}.mha")
    replies: list[tuple[int, str]] = []
    call = threading.Thread(target=lambda: replies.append(server.invoke()))
    call.start()
    while not list(server.output.glob("images/*/[!.]*.mha")):
        assert call.is_alive()
        time.sleep(0.02)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 143
    call.join(10)
    assert replies == [(503, "Stopped before this call was done\n")]
    results = json.loads((server.output / "results.json").read_text())
    done = {entry["inputs"][0]["filename"] for entry in results if entry["outputs"]}
    assert len(results) == 61 and done == {path.name for path in (server.output / MASKS).iterdir()}
    assert 0 < len(done) < 61 and not (server.output / ".reserve").exists()


@pytest.mark.slow
def test_a_hundred_calls_leave_memory_level(server: Server, cts: list[Path]) -> None:
    """Resident memory after ten calls and after a hundred, in MB."""

    def resident() -> float:
        pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    after = []
    for number in range(100):
        server.mount(cts[number % 3])
        assert server.invoke()[0] == (422 if number % 3 == 2 else 201)
        after.append(resident())
    assert max(after[50:]) < after[9] + 30, after
