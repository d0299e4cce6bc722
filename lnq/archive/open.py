"""Cases opened: read, checked, and unpacked first where they lie in an archive."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnq.dicom.header import SliceFile
from lnq.dicom.read import read_dicom_files, read_dicom_series
from lnq.errors import ImageError
from lnq.image.itk import read_volume
from lnq.image.plausible import check_image
from lnq.image.volume import Volume

BLOCK_BYTES = 2**20
_MOST_BYTES = 2**35  # that an archive's members may unpack to: far above any CT, below what fills a server's disk


@dataclass(frozen=True, eq=False)
class OpenedCase:
    """A case that was read."""

    volume: Volume  # checked, in HU
    slices: tuple[SliceFile, ...] = ()  # of a DICOM series, in the volume's order, with their headers


def read_ct(path: Path) -> Volume:
    """Read the CT of an image file or of a DICOM folder and check it. Raises ImageError where it cannot be used."""
    volume = read_dicom_series(path) if path.is_dir() else read_volume(path)
    check_image(volume, path.name)
    return volume


def open_series(files: Sequence[Path], name: str) -> OpenedCase:
    """Read the DICOM series that `files` are the slices of and check it; `name` stands for it in errors.

    Raises ImageError where it cannot be used.
    """
    volume, slices = read_dicom_files(files, name)
    check_image(volume, name)
    return OpenedCase(volume, tuple(slices))


def unpack(archive: Path, names: Sequence[str], folder: Path) -> list[Path]:
    """Members of a zip archive as files below `folder`, those of one folder in one folder, under their own names.

    Raises ImageError for a damaged archive and for more bytes than any CT has, OSError where they cannot be written.
    """
    folders: dict[str, Path] = {}
    paths = []
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [opened.getinfo(name) for name in names]
            if sum(member.file_size for member in members) > _MOST_BYTES:
                limit = "{subject} cannot be used: it unpacks to more than {limit} GB"
                raise ImageError(limit, subject=archive.name, limit=_MOST_BYTES >> 30)
            for member in members:
                inner, _, name = member.filename.rpartition("/")
                inside = folders.setdefault(inner, folder / str(len(folders)))
                inside.mkdir(exist_ok=True)
                paths.append(inside / name.replace("\0", ""))
                with opened.open(member) as packed, open(paths[-1], "wb") as file:
                    shutil.copyfileobj(packed, file, BLOCK_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise damaged_archive(archive, error) from None
    return paths


def damaged_archive(archive: Path, error: Exception) -> ImageError:
    """The sentence for what a library says of a damaged archive."""
    sentence = "{subject} cannot be used: the archive is damaged ({error})"
    return ImageError(sentence, subject=archive.name, error=str(error))
