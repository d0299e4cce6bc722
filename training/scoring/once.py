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
    wanted = json.loads(json.dumps(made_from))  # as JSON gives it back
    try:
        content = json.loads(path.read_text())
        if content["made_from"] == wanted:
            return from_plain(kind, content["result"])
    except (OSError, ValueError, TypeError, KeyError):
        pass
    result = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"made_from": wanted, "result": to_plain(result)}) + "\n")
    return result
