from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest
from helpers.paths import ROOT

from lnq.processes import in_fresh_processes, side_by_side


@pytest.mark.parametrize("processes", [0, 1])
def test_one_process_is_this_one_and_keeps_the_order(processes: int) -> None:
    assert list(side_by_side(lambda item: (item, os.getpid()), [3, 1, 2], processes)) == [
        (item, os.getpid()) for item in (3, 1, 2)
    ]


def test_work_is_begun_as_it_is_asked_for() -> None:
    begun: list[int] = []
    results = side_by_side(lambda item: begun.append(item), [1, 2], 1)
    next(results)
    assert begun == [1]


def test_several_processes_are_others() -> None:
    results = list(side_by_side(os.path.getsize, [__file__] * 3, 2))
    assert results == [os.stat(__file__).st_size] * 3


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(FileNotFoundError):
        list(in_fresh_processes(os.path.getsize, ["/no/such/file"], 1))


def test_process_that_was_ended_is_told() -> None:
    with pytest.raises(BrokenProcessPool):
        list(in_fresh_processes(signal.raise_signal, [signal.SIGKILL], 1))


def test_a_function_that_new_processes_cannot_find_is_refused(tmp_path):
    package = tmp_path / "command"
    package.mkdir()
    text = "from functools import partial\nfrom lnq.processes import side_by_side\ndef work(a, b):\n    return a + b\n"
    (package / "__main__.py").write_text(f"{text}print(list(side_by_side(partial(work, 1), [2, 3], 2)))\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-m", "command"], env=environment, capture_output=True, text=True)
    sentence = "ValueError: New processes cannot find a function of command.__main__: define it in another module"
    assert done.stderr.splitlines()[-1] == sentence
