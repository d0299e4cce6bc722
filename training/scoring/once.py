"""Compute a score once: what lies in a file, and was made from the same, is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lnq.files import write_text
from lnq.plain import from_plain, to_plain

T = TypeVar("T")


def once(path: Path, made_from: dict[str, Any], kind: type[T], work: Callable[[], T]) -> T:
    """What `work` gives, a dataclass `kind`, from the file where it was made from the same, else written to it.

    `made_from`: plain data. A file that is damaged, or holds another kind, is written again.
    """
    done = read_made_from(path, made_from, kind)
    if done is not None:
        return done
    result = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"made_from": made_from, "result": to_plain(result)}) + "\n")
    return result


def read_made_from(path: Path, made_from: dict[str, Any], kind: type[T]) -> T | None:
    """What `once` wrote to a file; None where it was made from something else, or cannot be read."""
    try:
        content = json.loads(path.read_text())
        same = content["made_from"] == json.loads(json.dumps(made_from))  # as JSON gives it back
        return from_plain(kind, content["result"]) if same else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
