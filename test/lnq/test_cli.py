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


def test_the_challenge_without_its_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("lnq.cli.find_spec", lambda name: None if name == "evalutils" else find_spec(name))
    assert main(["--input", "x", "--output", "y"]) == 2
    assert capsys.readouterr().err.endswith("needs the package evalutils: install the extra lnq[challenge]\n")


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
