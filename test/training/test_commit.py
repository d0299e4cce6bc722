from __future__ import annotations

import re
import subprocess

import pytest

from training import commit


def test_commit_is_that_of_the_tree_with_a_mark_where_files_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"rev-parse": "0123abcd", "status": ""}
    monkeypatch.setattr(commit, "_git", lambda _root, command, *_: asked[command])
    assert commit.git_commit() == "0123abcd"
    asked["status"] = " M README.md"
    assert commit.git_commit() == "0123abcd+"


def test_tree_without_a_repository_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", failing)
    assert commit.git_commit() == "unknown"


def test_this_tree_has_one_or_none() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", commit.git_commit())
