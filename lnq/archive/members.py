"""The members of archives: zip, tar, and either within another."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import pydicom

from lnq.dicom.header import (
    HEADER_BYTES,
    OF_CHOICE,
    OF_GATHERING,
    PREAMBLE_BYTES,
    is_bare,
    is_dicom,
    is_whole,
    parse_header,
)
from lnq.errors import ImageError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
WITHIN = "//"  # between the name of an archive in an archive and that of its member
BLOCK_BYTES = 2**20
_DEEPEST = 3  # archives within each other
_MOST_INNER = 2**33  # bytes that an archive within another may unpack to
_MOST_MEMBERS = 100_000  # files of an archive: a study has a few thousand


class Encrypted(Exception):
    """An archive needs a password."""


class TooLarge(Exception):
    """An archive holds more files, or one within it unpacks to more bytes, than any study has."""


@dataclass(frozen=True)
class Member:
    """A file in an archive. It must be read before the next one is asked for."""

    name: str  # its path in the archive
    size: int  # bytes, unpacked
    checksum: int | None  # CRC-32, where the archive holds one
    open: Callable[[], IO[bytes]]


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name."""
    return name.lower().endswith(ARCHIVES)


def members(path: Path, depth: int = 0) -> Iterator[Member]:
    """The files in an archive, and in the archives within it, in an order that does not depend on how it was packed.

    Raises Encrypted, TooLarge, and errors of many kinds for a damaged archive.
    """
    for member in _tar_members(path) if tarfile.is_tarfile(path) else _zip_members(path):
        if not is_archive(member.name) or depth == _DEEPEST:
            yield member
            continue
        with _unpacked(member) as inner:
            for one in members(inner, depth + 1):
                yield Member(f"{member.name}{WITHIN}{one.name}", one.size, one.checksum, one.open)


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        if len(archive.filelist) > _MOST_MEMBERS:
            raise TooLarge
        found = [info for info in archive.infolist() if not info.is_dir()]
        if any(info.flag_bits & 1 for info in found):
            raise Encrypted
        for info in sorted(found, key=lambda info: info.filename):
            yield Member(info.filename, info.file_size, info.CRC, partial(archive.open, info))


def _tar_members(path: Path) -> Iterator[Member]:
    """The files of a tar archive, as they follow each other: a packed one can be read in no other order."""
    with tarfile.open(path) as archive:
        for number, info in enumerate(archive):
            if number == _MOST_MEMBERS:
                raise TooLarge
            if info.isfile():
                yield Member(info.name, info.size, None, partial(_extracted, archive, info))
            archive.members.clear()  # type: ignore[attr-defined]  # a list that tarfile keeps of all of them


def _extracted(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None  # `info` is of a file
    return file


@contextmanager
def _unpacked(member: Member) -> Iterator[Path]:
    """An archive within another, as a temporary file."""
    with tempfile.TemporaryDirectory(prefix="lnq-") as folder:
        if member.size > min(_MOST_INNER, shutil.disk_usage(folder).free):
            raise TooLarge
        path = Path(folder) / "archive"
        with member.open() as packed, open(path, "wb") as file:
            shutil.copyfileobj(packed, file, BLOCK_BYTES)
        yield path


def member_header(member: Member) -> pydicom.Dataset | None:
    """The DICOM header of a member; None where it is not a DICOM file. Raises ImageError where it is damaged."""
    data = b""
    with member.open() as file:
        for size in HEADER_BYTES:
            data += file.read(size - len(data))
            if not is_dicom(data):
                return None
            try:
                header = parse_header(io.BytesIO(data), OF_CHOICE, OF_GATHERING)
            except Exception:  # too few bytes, or damaged: pydicom raises errors of many kinds
                continue
            if is_whole(header):
                return header
    if is_bare(data[:PREAMBLE_BYTES]):
        return None
    raise ImageError("its file {file} is damaged", file=Path(member.name).name)
