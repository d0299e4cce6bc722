"""The command line in this process; test/system runs it as a process of its own."""

import importlib.util
import sys
from pathlib import Path

import pytest

from lnq import __version__
from lnq.cli import main, parser, run


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"lnq {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--model", "M", "batch", "x", "-o", "y"], ["batch", "x", "-o", "y", "--model", "M"]]
)
def test_the_options_of_the_model_stand_before_or_after_the_command(arguments: list[str]):
    options = parser().parse_args(arguments)
    assert (options.model, options.device, options.precision, options.mirror) == (Path("M"), "auto", "auto", None)


def test_a_broken_bundle_ends_with_status_2_and_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["info", "--model", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and str(tmp_path) in lines[0]


@pytest.mark.parametrize("package", ["evalutils", "waitress"])
@pytest.mark.parametrize("command", [[], ["exec"], ["serve"]])
def test_the_challenge_without_its_package_names_the_extra(
    package: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("lnq.cli.find_spec", lambda name: None if name == package else find_spec(name))
    assert main([*command, "--input", "x", "--output", "y"]) == 2
    assert capsys.readouterr().err.endswith(f"needs the package {package}: install the extra lnq[challenge]\n")


@pytest.mark.parametrize(
    ("environment", "ran"),
    [
        ({}, "exec"),
        ({"LNQ_API_METHOD": "exec"}, "exec"),
        ({"LNQ_API_METHOD": "invoke"}, "serve"),
        ({"LNQ_API_METHOD": "invoke", "GRAND_CHALLENGE_COMPONENT_API_METHOD": "exec"}, "exec"),
        ({"LNQ_API_METHOD": "exec", "GRAND_CHALLENGE_COMPONENT_API_METHOD": "invoke"}, "serve"),
        ({"LNQ_API_METHOD": "invoke", "GRAND_CHALLENGE_COMPONENT_API_METHOD": ""}, "serve"),
    ],
)
def test_without_a_command_the_environment_says_whether_it_runs_once_or_serves(
    environment: dict[str, str], ran: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("LNQ_API_METHOD", "GRAND_CHALLENGE_COMPONENT_API_METHOD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked: list[tuple[str, Path]] = []
    for name, function in (("exec", "execute"), ("serve", "serve")):
        monkeypatch.setattr(
            f"lnq.cli.{function}", lambda options, name=name: (asked.append((name, options.input)), (0, ""))[1]
        )
    assert main(["--input", "x"], program="process.py") == 0
    assert asked == [(ran, Path("x"))]


def test_an_unknown_method_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("LNQ_API_METHOD", "call")
    assert main(["--input", "x"], program="process.py") == 2
    assert capsys.readouterr().err == "LNQ_API_METHOD must be exec or invoke, not call\n"


@pytest.mark.parametrize(
    ("options", "environment", "address"),
    [
        ([], None, ("127.0.0.1", 4743)),
        ([], "0.0.0.0", ("0.0.0.0", 4743)),
        (["--host", "10.0.0.1", "--port", "0"], "0.0.0.0", ("10.0.0.1", 0)),
    ],
)
def test_the_server_listens_where_it_is_told_to(
    options: list[str], environment: str | None, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("LNQ_HOST", raising=False)
    if environment is not None:
        monkeypatch.setenv("LNQ_HOST", environment)
    asked: list[tuple[object, ...]] = []

    def serve(*given: object) -> None:
        asked.append(given[1:])
        raise KeyboardInterrupt

    monkeypatch.setattr("lnq.challenge.server.serve", serve)
    assert main(["serve", "--input", "x", "--output", "y", *options]) == 130
    assert asked == [(Path("x"), Path("y"), *address)]


def test_an_unforeseen_error_is_said_in_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(_: object) -> object:
        raise RuntimeError("no\nway")

    monkeypatch.setattr("lnq.cli._bundle", fail)
    assert main(["info"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "Stopped by an unforeseen RuntimeError: no way"


def test_interrupting_it_has_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupt(_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("lnq.cli._bundle", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "Stopped by a signal: finished cases are kept\n"


def test_the_installed_command_takes_the_process_arguments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["lnq", "info", "--model", str(tmp_path)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert run() == 2


def test_without_arguments_the_command_shows_its_help_and_touches_nothing(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: lnq ") and "batch" in captured.err
