"""The cases to segment: an image file, a DICOM series, or either of them in an archive. Each case can open itself.

A case keeps its identity from run to run. All results call it by its name.
"""

from __future__ import annotations

import hashlib
import hmac
import tarfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from lnq.archive.members import BLOCK_BYTES, members
from lnq.archive.open import DAMAGE, OpenedCase, check_head, damaged_archive, open_series, read_ct, unpack
from lnq.errors import Damaged
from lnq.image.headers.integrity import read_layout
from lnq.image.names import stem


@dataclass(frozen=True)
class Subject:
    """The subject of one line of the manifest: something under what a user points at."""

    name: str  # blank until `name_cases` has seen all subjects
    path: Path  # the file, folder or archive
    chosen: str = field(default="", kw_only=True)  # why it was chosen among others; blank where there was no choice
    key: str = field(default="", kw_only=True, repr=False)  # hex; nobody without it can compute the digests

    @property
    def series_uid(self) -> str | None:
        """The SeriesInstanceUID of a DICOM series; None for anything else."""
        return None

    @property
    def plain_name(self) -> str:
        """Its name where no other subject has the same: the path's stem."""
        return stem(self.path) or f"series-{self.identity[:8]}"

    @property
    def identity(self) -> str:
        """Digest of its SeriesInstanceUID, or else of its place. It is the same in every run."""
        return self.digest(self.series_uid or self.place)

    def digest(self, text: str) -> str:
        """Hex SHA-256 of a text, or HMAC-SHA-256 with the key where there is one."""
        digest = self.hash()
        digest.update(text.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def hash(self) -> hashlib._Hash | hmac.HMAC:
        """The empty digest."""
        return hmac.new(bytes.fromhex(self.key), digestmod="sha256") if self.key else hashlib.sha256()

    @property
    def place(self) -> str:
        """Where it lies: the path, followed by its first file where the path holds several."""
        return str(self.path)


@dataclass(frozen=True)
class MissingSeries(Subject):
    """A DICOM series that the user asked for and that was not found. `path` holds its UID."""

    @property
    def series_uid(self) -> str:
        return str(self.path)

    @property
    def plain_name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Case(Subject, ABC):
    """Something that can be segmented."""

    warnings: tuple[str, ...] = field(default=(), kw_only=True)  # what to tell of how it came to be segmented

    @abstractmethod
    def files(self) -> list[Path]:
        """The files on disk that hold the case."""

    @abstractmethod
    def open(self, scratch: Path) -> OpenedCase:
        """Read and check the case. Members of an archive are unpacked into the folder `scratch` first.

        Raises ImageError with the reason where the case cannot be used, OSError where it cannot be unpacked.
        """

    def content(self) -> Iterator[bytes]:
        """Blocks of bytes that differ where the case's contents differ. Raises OSError where a file is missing."""
        for path in self.files():
            yield f"{path.stat().st_size}\0".encode()
            with open(path, "rb") as file:
                while block := file.read(BLOCK_BYTES):
                    yield block


def image_files(path: Path) -> list[Path]:
    """An image file, followed by the file that holds its voxels where that is another one."""
    try:
        voxels = read_layout(path).path
    except (Damaged, OSError):
        return [path]
    return [path] if voxels == path else [path, voxels]


@dataclass(frozen=True)
class ImageFile(Case):
    """An image file."""

    def files(self) -> list[Path]:
        """See `Case`: the image file, and the voxel file that its header names."""
        return image_files(self.path)

    def open(self, scratch: Path) -> OpenedCase:
        """See `Case`."""
        return OpenedCase(read_ct(self.path))


@dataclass(frozen=True)
class DicomSeries(Case):
    """The slices of a DICOM series, wherever they lie below `path`."""

    slices: tuple[Path, ...]
    uid: str

    @property
    def series_uid(self) -> str:
        return self.uid

    @property
    def plain_name(self) -> str:
        return self.path.name or f"series-{self.identity[:8]}"  # a folder's name has no extension

    @property
    def place(self) -> str:
        return "\0".join(map(str, [self.path, *self.slices[:1]]))

    def files(self) -> list[Path]:
        """See `Case`."""
        return list(self.slices)

    def open(self, scratch: Path) -> OpenedCase:
        """See `Case`."""
        return open_series(self.slices, self.path.name)


@dataclass(frozen=True)
class _Archived(Case):
    """Members of the archive `path`."""

    members: tuple[str, ...]

    @property
    def place(self) -> str:
        return "\0".join([str(self.path), *self.members[:1]])

    def files(self) -> list[Path]:
        """See `Case`."""
        return [self.path]

    def content(self) -> Iterator[bytes]:
        """See `Case`: the members' checksums, or all bytes of a tar archive, which holds none.

        Raises ImageError where the archive is damaged.
        """
        if tarfile.is_tarfile(self.path):
            yield "\0".join(self.members).encode(errors="surrogateescape")
            yield from super().content()
            return
        wanted = set(self.members)
        try:
            for member in members(self.path):
                if member.name in wanted:
                    wanted.remove(member.name)
                    line = f"{member.name}\0{member.checksum}\0{member.size}\0"
                    yield line.encode(errors="surrogateescape")
            if wanted:
                raise KeyError(min(wanted))
        except (*DAMAGE, KeyError) as error:
            raise damaged_archive(self.path, error) from None


@dataclass(frozen=True)
class ArchivedImage(_Archived):
    """An image file in an archive. It is the first of `members`; its voxel files follow."""

    @property
    def plain_name(self) -> str:
        return stem(Path(self.members[0]))

    def open(self, scratch: Path) -> OpenedCase:
        """See `Case`."""
        check_head(self.path, self.members[0], scratch)
        return OpenedCase(read_ct(unpack(self.path, self.members, scratch)[0]))


@dataclass(frozen=True)
class ArchivedSeries(_Archived):
    """The slices of a DICOM series in an archive."""

    uid: str

    @property
    def series_uid(self) -> str:
        return self.uid

    def open(self, scratch: Path) -> OpenedCase:
        """See `Case`."""
        return open_series(unpack(self.path, self.members, scratch), self.path.name)


KINDS: Sequence[type[Case]] = (ImageFile, DicomSeries, ArchivedImage, ArchivedSeries)


def file_state(case: Case) -> tuple[int, int, int]:
    """Number, bytes and latest change (ns) of a case's files: quick to read, and equal where no file was touched.

    Raises OSError where a file is missing.
    """
    states = [path.stat() for path in case.files()]
    return len(states), sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)


def content_sha256(case: Case) -> str:
    """Digest of a case's contents. Raises OSError where a file is missing, ImageError for a damaged archive."""
    digest = case.hash()
    for block in case.content():
        digest.update(block)
    return digest.hexdigest()


Named = TypeVar("Named", bound=Subject)


def name_cases(found: Iterable[Named], taken: Iterable[str] = ()) -> list[Named]:
    """Name the cases. A case gets its plain name, plus `-` and 8 hex digits where two agree or the name is `taken`.

    A case with a key gets 16 hex digits of its identity instead, which tell nothing about the patient. The order is
    kept.
    """
    found = list(found)
    plain = [one.plain_name for one in found]
    used = {name.lower() for name in taken}  # some file systems ignore upper and lower case
    count = Counter(name.lower() for name in (*plain, *used))
    named = []
    for one, name in zip(found, plain, strict=True):
        if one.key:
            name = one.identity[:16]
        elif count[name.lower()] > 1:
            name = f"{name}-{one.identity[:8]}"
        named.append(replace(one, name=free_name(one, name, used)))
    return named


def free_name(found: Subject, name: str, used: set[str]) -> str:
    """`name`, with a digest of the files' place where it is among `used`. The result is added to `used`, in lower case.

    Names may clash even within a series: its objects are two cases in two archives, or as a scan and its scout view.
    """
    if name.lower() in used:
        name = f"{name}-{found.digest(found.place)[:8]}"
    used.add(name.lower())
    return name
