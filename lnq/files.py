"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: what is written there takes its place, unless there is an error.

    It is hidden, and has the extension of `path`, by which many writers choose a format.
    """
    path = Path(path)
    part = path.with_name(f".{secrets.token_hex(6)}.part-{path.name[-40:]}")  # names have at most 255 bytes
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replace_atomically(path) as part:
        part.write_text(text)
