"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lnq.errors import StartError
from lnq.signals import signals_held

_LEAST_FREE = 1 << 20  # bytes; a disk with less is full

PRIVATE_UMASK = 0o077  # files and folders of their owner alone


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`. Unless there is an error, the file written there then replaces `path`.

    The disk holds the new file before it gets its name. The temporary file is hidden. It has the extension of `path`,
    because many writers choose a format by it.
    """
    path = Path(path)
    part = path.with_name(f".{secrets.token_hex(6)}.part-{path.name[-40:]}")  # names have at most 255 bytes
    try:
        yield part
        flush(part)
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the disk hold a file's contents, or a folder's entries. Raises OSError where it cannot."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (error.errno == errno.EINVAL and path.is_dir()):  # some file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def replace_folder(new: Path, target: Path, aside: Path) -> None:
    """Put the finished folder `new` in the place of `target`.

    The disk holds all files before they get their names. An earlier folder is moved `aside` first and removed in the
    end. After an error it is back in its place, or still `aside` where even that fails. A signal waits until one of
    both is in its place. All three paths lie on one file system, and `aside` is free. Raises OSError.
    """
    for path in (*new.iterdir(), new):
        flush(path)
    with signals_held():
        if target.exists():
            os.rename(target, aside)
        try:
            os.rename(new, target)
        except OSError:
            if aside.exists():
                os.rename(aside, target)
            raise
    flush(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def replace_files(new: Path, target: Path, names: Sequence[str]) -> None:
    """Move files of the folder `new` into the folder `target`, all of them or none. Raises OSError.

    A signal waits until they are moved.
    """
    for name in names:
        flush(new / name)
    before: list[str] = []
    moved: list[str] = []
    with signals_held(), tempfile.TemporaryDirectory(dir=target, prefix=".replaced-") as aside:
        try:
            for name in names:
                if (target / name).exists():
                    os.rename(target / name, Path(aside) / name)
                    before.append(name)
                os.rename(new / name, target / name)
                moved.append(name)
            flush(target)
        except BaseException:
            for name in moved:
                (target / name).unlink(missing_ok=True)
            for name in before:
                os.rename(Path(aside) / name, target / name)
            raise


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file atomically. Raises OSError."""
    with replace_atomically(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8. Raises OSError."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def unwritten(path: Path) -> OSError:
    """The error of a library that has not written `path` and does not say why: a full disk, or else a faulty one."""
    with suppress(OSError):
        if shutil.disk_usage(Path(path).parent).free < _LEAST_FREE:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return OSError(errno.EIO, os.strerror(errno.EIO), str(path))


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
