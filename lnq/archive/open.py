"""Open cases: unpack those in an archive, then read and check them."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnq.archive.members import BLOCK_BYTES, members
from lnq.dicom.header import SliceFile
from lnq.dicom.read import read_dicom_files, read_dicom_series
from lnq.dicom.stack import Stack
from lnq.errors import ImageError
from lnq.image.itk import read_volume
from lnq.image.plausible import check_image
from lnq.image.volume import Volume

DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
_MOST_BYTES = 2**35  # most that an archive's members may unpack to: far above any CT, too little to fill a disk


@dataclass(frozen=True, eq=False)
class OpenedCase:
    """A case that was read."""

    volume: Volume  # checked, in HU
    stack: Stack | None = None  # the slices of a DICOM series, and how they lie in the volume

    @property
    def slices(self) -> tuple[SliceFile, ...]:
        """A DICOM series' slices with their headers, in the order in which they lie; none for an image file."""
        return () if self.stack is None else tuple(one.file for one in self.stack.slices)


def read_ct(path: Path) -> Volume:
    """Read and check the CT of an image file or a DICOM folder. Raises ImageError where it cannot be used."""
    volume = read_dicom_series(path).volume if path.is_dir() else read_volume(path)
    check_image(volume, path.name)
    return volume


def open_series(files: Sequence[Path], name: str) -> OpenedCase:
    """Read and check a DICOM series from the files of its slices. Errors call it `name`.

    Raises ImageError where it cannot be used.
    """
    series = read_dicom_files(files, name)
    check_image(series.volume, name)
    return OpenedCase(series.volume, series.stack)


def unpack(archive: Path, names: Sequence[str], folder: Path) -> list[Path]:
    """Unpack members of an archive to files below `folder`. The paths are in the order of `names`.

    Members of one folder get one folder of their own and keep their file names. Raises ImageError for a damaged
    archive and for more bytes than any CT has, OSError where a file cannot be written.
    """
    folders: dict[str, Path] = {}
    paths: dict[str, Path] = {}
    wanted, unpacked = set(names), 0
    try:
        for member in members(archive):
            if member.name not in wanted:
                continue
            unpacked += member.size
            if unpacked > _MOST_BYTES:
                limit = "{subject} cannot be used: it unpacks to more than {limit} GB"
                raise ImageError(limit, subject=archive.name, limit=_MOST_BYTES >> 30)
            inner, _, name = member.name.rpartition("/")
            inside = folders.setdefault(inner, folder / str(len(folders)))
            inside.mkdir(exist_ok=True)
            paths[member.name] = inside / name.replace("\0", "")
            with member.open() as packed, open(paths[member.name], "wb") as file:
                shutil.copyfileobj(packed, file, BLOCK_BYTES)
        return [paths[name] for name in names]
    except (*DAMAGE, KeyError, RuntimeError) as error:
        raise damaged_archive(archive, error) from None


def damaged_archive(archive: Path, error: Exception) -> ImageError:
    """The error that tells the user of a damaged archive, with what a library says of it."""
    sentence = "{subject} cannot be used: the archive is damaged ({error})"
    return ImageError(sentence, subject=archive.name, error=str(error))
