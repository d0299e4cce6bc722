"""A case's files opened, wherever they lie, and a fingerprint that tells whether they changed."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnq.archive.case import ARCHIVE, Case, read_case
from lnq.dicom.read import read_dicom_files
from lnq.errors import ImageError
from lnq.image.names import VOXEL_FILES, stem
from lnq.image.plausible import check_image
from lnq.image.volume import Volume

_MOST_BYTES = 2**35  # that an archive's members may unpack to: far above any CT, below what fills a server's disk
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Source:
    """An opened case."""

    volume: Volume  # checked, in HU
    slices: tuple[Path, ...] = ()  # the DICOM file of each slice, in the volume's order; none for image files


def open_case(case: Case, scratch: Path) -> Source:
    """Read a case and check it; what lies in an archive is unpacked into `scratch`, where its slices then are.

    Raises ImageError with the reason where the case cannot be used, OSError where it cannot be unpacked.
    """
    files = _unpack(case, scratch) if is_archive(case.path) else [Path(file) for file in case.files]
    if not case.dicom:
        return Source(read_case(files[0] if files else case.path))
    volume, slices = read_dicom_files(files, case.path.name)
    check_image(volume, case.path.name)
    return Source(volume, tuple(slices))


def is_archive(path: Path) -> bool:
    """Whether a path is that of a zip archive."""
    return path.name.lower().endswith(ARCHIVE) and path.is_file()


def _unpack(case: Case, scratch: Path) -> list[Path]:
    """The case's members as files below `scratch`, those of one folder in one folder, under their own names."""
    folders: dict[str, Path] = {}
    paths = []
    try:
        with zipfile.ZipFile(case.path) as archive:
            members = [archive.getinfo(name) for name in case.files]
            if sum(member.file_size for member in members) > _MOST_BYTES:
                raise ImageError(f"{case.path.name} cannot be used: it unpacks to more than {_MOST_BYTES >> 30} GB")
            for member in members:
                inner, _, name = member.filename.rpartition("/")
                folder = folders.setdefault(inner, scratch / str(len(folders)))
                folder.mkdir(exist_ok=True)
                paths.append(folder / name.replace("\0", ""))
                with archive.open(member) as packed, open(paths[-1], "wb") as file:
                    shutil.copyfileobj(packed, file, _BLOCK_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ImageError(f"{case.path.name} cannot be used: the archive is damaged ({error})") from None
    return paths


def files_of(case: Case) -> list[Path]:
    """The files on disk that a case consists of."""
    if case.dicom and not is_archive(case.path):
        return [Path(file) for file in case.files]
    if case.path.is_dir():
        return sorted(p for p in case.path.iterdir() if p.is_file())
    base = stem(case.path)
    beside = (case.path.with_name(base + extension) for extension in VOXEL_FILES)
    return [case.path, *(p for p in beside if p.is_file())]


def file_state(case: Case) -> list[int]:
    """Number, bytes and latest change (ns) of a case's files: quick to look at, and equal where nothing was touched.

    Raises OSError where one is missing.
    """
    states = [path.stat() for path in files_of(case)]
    return [len(states), sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)]


def content_sha256(case: Case) -> str:
    """Hex SHA-256 of a case's contents: of all bytes, or of the checksums that an archive keeps of its members.

    Raises OSError where a file is missing, ImageError for a damaged archive.
    """
    digest = hashlib.sha256()
    for block in _members(case) if is_archive(case.path) else _blocks(files_of(case)):
        digest.update(block)
    return digest.hexdigest()


def _members(case: Case) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(case.path) as archive:
            for name in case.files:
                member = archive.getinfo(name)
                yield f"{name}\0{member.CRC}\0{member.file_size}\0".encode(errors="surrogateescape")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ImageError(f"{case.path.name} cannot be used: the archive is damaged ({error})") from None


def _blocks(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        yield f"{path.stat().st_size}\0".encode()
        with open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                yield block


def case_to_plain(case: Case) -> dict[str, Any]:
    """For JSON."""
    return {
        "name": case.name,
        "path": str(case.path),
        "files": list(case.files),
        "dicom": case.dicom,
        "series_uid": case.series_uid,
    }


def case_from_plain(data: dict[str, Any]) -> Case:
    """Undo `case_to_plain`."""
    return Case(data["name"], Path(data["path"]), tuple(data["files"]), data["dicom"], data["series_uid"])
