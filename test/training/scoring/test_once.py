"""A score is computed once, and again where anything that it was made from changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from training.scoring.once import once


@dataclass(frozen=True)
class Counted:
    """A result that tells how often it was computed."""

    times: int
    pair: tuple[float, str]


@pytest.fixture
def ask() -> Callable[..., Counted]:
    """A function that asks for a result; each computation counts."""
    times = 0

    def work() -> Counted:
        nonlocal times
        times += 1
        return Counted(times, (0.5, "a"))

    return lambda path, **made_from: once(path, made_from, Counted, work)


def test_the_same_is_computed_once_and_anything_else_again(tmp_path: Path, ask: Callable[..., Counted]) -> None:
    path = tmp_path / "scores" / "a.json"
    assert ask(path, files=("x", 1)) == ask(path, files=["x", 1]) == Counted(1, (0.5, "a"))
    assert ask(path, files=("x", 2)).times == 2
    assert ask(path, files=("x", 1)).times == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"made_from": {"a": 1}}', '{"made_from": {"a": 1}, "result": 3}'])
def test_a_damaged_file_is_written_again(tmp_path: Path, ask: Callable[..., Counted], content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert ask(tmp_path / "a.json", a=1).times == 1
    assert ask(tmp_path / "a.json", a=1).times == 1
