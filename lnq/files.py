"""Files that appear complete or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lnq.errors import StartError


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`. Unless there is an error, the file written there then replaces `path`.

    The temporary file is hidden. It has the extension of `path`, because many writers choose a format by it.
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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_output(output: Path) -> None:
    """Make the output folder. Raises StartError where it cannot be made or written to."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / ".writable", "")
        (output / ".writable").unlink()
    except OSError as error:
        raise StartError(f"The output folder {output} cannot be written: {error.strerror or error}") from None
