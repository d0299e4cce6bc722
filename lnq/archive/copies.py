"""Whether two DICOM objects of the same UID and position are copies of each other."""

from __future__ import annotations

import filecmp
import hashlib
from pathlib import Path

from lnq.archive.members import members
from lnq.dicom.stacks import Instance
from lnq.dicom.structure import find_pixels, open_plain

_MOST_BYTES = 2**27  # inflated of a file, to compare it with another


def same_pixels(one: Instance, other: Instance) -> bool:
    """Whether two objects hold the same bytes, or at least the same pixels. False where one cannot be read."""
    try:
        if one.archive:
            return _in_archive(one) == _in_archive(other)
        return filecmp.cmp(one.place, other.place, shallow=False) or _pixels(one) == _pixels(other)
    except Exception:  # pydicom and zipfile raise errors of many kinds for a damaged file
        return False


def _in_archive(one: Instance) -> str:
    """A member's checksum, or else a digest of its bytes."""
    for member in members(Path(one.archive)):
        if member.name == one.place and member.checksum is not None:
            return f"{member.checksum} {member.size}"
        if member.name == one.place:
            with member.open() as file:
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    raise KeyError(one.place)


def _pixels(one: Instance) -> bytes:
    """A digest of a file's pixels, and of what follows them."""
    with open_plain(Path(one.place), _MOST_BYTES) as (file, size):
        file.seek(find_pixels(file, size).offset)
        return hashlib.file_digest(file, "sha256").digest()
