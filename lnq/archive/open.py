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
from typing import IO

from lnq.archive.members import BLOCK_BYTES, members
from lnq.dicom.header import SliceFile
from lnq.dicom.read import read_dicom_files, read_dicom_series
from lnq.dicom.stack import Stack
from lnq.errors import ImageError
from lnq.image.headers.layout import LONGEST_HEADER
from lnq.image.itk import read_geometry, read_volume
from lnq.image.names import extension_of
from lnq.image.plausible import check_geometry, check_image
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
    if path.is_dir():
        volume = read_dicom_series(path).volume
    else:
        check_geometry(read_geometry(path), path.name)  # before any memory is taken
        volume = read_volume(path)
    check_image(volume, path.name)
    return volume


def check_head(archive: Path, name: str, folder: Path) -> None:
    """Check an image in an archive by its header, before the rest is unpacked. `folder` is for the first bytes.

    Raises ImageError where the header describes no CT, or where the archive is damaged.
    """
    head = folder / f"head{extension_of(name)}"
    try:
        for member in members(archive):
            if member.name == name:
                with member.open() as packed:
                    head.write_bytes(packed.read(LONGEST_HEADER))
                break
        else:
            raise KeyError(name)
    except (*DAMAGE, KeyError, RuntimeError) as error:
        raise damaged_archive(archive, error) from None
    try:
        volume = read_geometry(head)
    except ImageError:  # what is not in these bytes shows later
        return
    finally:
        head.unlink()
    check_geometry(volume, Path(name).name)


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
    room = min(_MOST_BYTES, shutil.disk_usage(folder).free)
    try:
        for member in members(archive):
            if member.name not in wanted:
                continue
            unpacked += member.size
            if unpacked > room:
                limit = "{subject} cannot be used: it unpacks to more than {limit:.1f} GB, for which there is no room"
                raise ImageError(limit, subject=archive.name, limit=room / 1e9)
            inner, _, name = member.name.rpartition("/")
            inside = folders.setdefault(inner, folder / str(len(folders)))
            inside.mkdir(exist_ok=True)
            paths[member.name] = inside / name.replace("\0", "")
            with member.open() as packed, open(paths[member.name], "wb") as file:
                _copy(packed, file, member.size)
        return [paths[name] for name in names]
    except (*DAMAGE, KeyError, RuntimeError) as error:
        raise damaged_archive(archive, error) from None


def _copy(packed: IO[bytes], file: IO[bytes], size: int) -> None:
    """Unpack a member of `size` bytes. Raises EOFError where it has another size."""
    while block := packed.read(BLOCK_BYTES):
        size -= len(block)
        if size < 0:
            break
        file.write(block)
    if size:
        raise EOFError("a file has another size than the archive says")


def damaged_archive(archive: Path, error: Exception) -> ImageError:
    """The error that tells the user of a damaged archive, with what a library says of it."""
    sentence = "{subject} cannot be used: the archive is damaged ({error})"
    return ImageError(sentence, subject=archive.name, error=str(error))
