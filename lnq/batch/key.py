"""The key of an archive's owner, with which names become digests that nobody else can compute."""

from __future__ import annotations

import csv
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lnq.archive.case import Subject
from lnq.errors import StartError
from lnq.files import replace_atomically

_BYTES = 32
_COLUMNS = ("case", "series_uid", "path")


def default_key_file() -> Path:
    """Where a user's key lies. Raises StartError where the user has no home."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(folder) if folder else Path.home() / ".config") / "lnq" / "key"
    except RuntimeError:
        raise StartError("There is no home folder for the key: give --key FILE") from None


def read_key(path: Path, output: Path) -> str:
    """The key in a file, as hex digits; a new one where there is no file. Raises StartError where it cannot be used."""
    if output.resolve() in path.resolve().parents:
        raise StartError(f"The key {path} must not lie in the output folder, where others see it")
    with suppress(FileExistsError):
        _make(path)
    try:
        text = path.read_text(encoding="ascii").strip()
        others = path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The key {path} cannot be read: {error}") from None
    if not re.fullmatch(f"[0-9a-f]{{{2 * _BYTES}}}", text):
        raise StartError(f"The key {path} must hold {2 * _BYTES} hex digits and nothing else")
    if others:
        raise StartError(f"The key {path} can be read by others: chmod 600 it")
    return text


def _make(path: Path) -> None:
    """Make a key that its owner alone can read.

    Raises FileExistsError where there is one, StartError where it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
    except FileExistsError:
        raise
    except OSError as error:
        raise StartError(
            f"The key {path} cannot be made: {error.strerror}. Give a place for it by --key FILE"
        ) from None


def list_cases(key: Path, subjects: Iterable[Subject]) -> Path:
    """Write beside the key which case is which series and path, in addition to those listed there. Raises OSError."""
    path = key.with_name(f"{key.name}.cases.csv")
    rows: dict[str, tuple[str, ...]] = {}
    with suppress(FileNotFoundError), open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = {row["case"]: tuple(row[name] for name in _COLUMNS) for row in csv.DictReader(file)}
    rows |= {one.name: (one.name, one.series_uid or "", str(one.path)) for one in subjects}
    with (
        replace_atomically(path) as part,
        open(part, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        os.fchmod(file.fileno(), 0o600)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([_COLUMNS, *rows.values()])
    return path
