from __future__ import annotations

import pytest

from lnq.errors import BundleError
from training.command import run_command, run_over_cases


@pytest.mark.parametrize(("done", "status"), [(True, 0), (False, 143)])
def test_status_tells_whether_all_was_done(done: bool, status: int) -> None:
    assert run_command(lambda: done) == status


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError, BundleError])
def test_what_stops_a_command_is_one_sentence(error: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> bool:
        raise error("There is no such file")

    assert run_command(work) == 2
    assert capsys.readouterr().err == "Error: There is no such file\n"


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        run_command(lambda: {}["missing"])


@pytest.mark.parametrize(("complete", "status"), [(True, 0), (False, 1)])
def test_a_case_that_is_left_out_shows_in_the_status(complete: bool, status: int) -> None:
    assert run_over_cases(lambda: complete) == status


def test_a_command_over_cases_that_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> bool:
        raise ValueError("no case")

    assert run_over_cases(fail) == 2
    assert capsys.readouterr().err == "Error: no case\n"
