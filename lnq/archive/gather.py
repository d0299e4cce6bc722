"""Gather image files and DICOM objects from files, folders and archives, before any of them is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from lnq.archive.case import ArchivedImage, ImageFile
from lnq.archive.copies import same_pixels
from lnq.archive.members import Encrypted, Member, TooLarge, is_archive, member_header, members
from lnq.dicom.header import find_header, is_whole
from lnq.dicom.series import Gatherer
from lnq.errors import ImageError, Message, Stopped, Words
from lnq.image.names import EXTENSIONS, HEADERS, VOXEL_FILES, is_label_file

_DAMAGED = Message("is damaged")


@dataclass
class Sources:
    """Everything under the inputs, before a choice is made."""

    images: list[ImageFile | ArchivedImage] = field(default_factory=list)
    gatherer: Gatherer = field(default_factory=lambda: Gatherer(same_pixels))
    broken: dict[Path, Message] = field(default_factory=dict)  # what is wrong, by folder or archive
    seen: set[Path] = field(default_factory=set)  # resolved paths: circular links end, nothing is found twice
    ignored: list[Path] = field(default_factory=list)  # files of no known kind
    ignored_members: Counter[Path] = field(default_factory=Counter)  # number of those in each archive
    stopping: Callable[[], bool] = lambda: False

    def break_file(self, folder: Path, name: str, problem: Message) -> None:
        """Note that a file of a folder or an archive cannot be used."""
        self.broken[folder] = Message("its file {file} {problem}", file=name, problem=problem)


def gather(path: Path, sources: Sources) -> None:
    """Add the file `path`, or all that a folder `path` holds, to the sources. Raises Stopped when told to stop."""
    if sources.stopping():
        raise Stopped
    try:
        resolved = path.resolve()
        is_folder = path.is_dir()
        if resolved in sources.seen or not (is_folder or path.is_file() or path.is_symlink()):
            return  # pipes and devices are not read
        sources.seen.add(resolved)
        entries = sorted(path.iterdir()) if is_folder else []
    except (OSError, RuntimeError) as error:  # `resolve` raises RuntimeError for a link to itself
        reason = error.strerror if isinstance(error, OSError) else "the link leads to itself"
        sources.broken[path] = Message("it cannot be read: {reason}", reason=Words(reason))
        return
    names = {entry.name for entry in entries}
    for entry in entries:
        if not entry.name.startswith(".") and not is_label_file(entry.name, names):
            gather(entry, sources)
    if not is_folder:
        _gather_file(path.parent.resolve() / path.name, sources)


def _gather_file(path: Path, sources: Sources) -> None:
    """Add a file by its own name, even where that is a link to a file of another name."""
    if path.name.lower().endswith(EXTENSIONS):
        sources.images.append(ImageFile("", path))
    elif is_archive(path.name):
        _gather_archive(path, sources)
    elif path.name.upper() != "DICOMDIR":
        try:
            header = find_header(path)
        except OSError as error:
            problem = Message("cannot be read: {reason}", reason=Words(error.strerror or "unknown"))
            sources.break_file(path.parent, path.name, problem)
        except ImageError:
            sources.break_file(path.parent, path.name, _DAMAGED)
        else:
            if header is None and not path.name.lower().endswith(VOXEL_FILES):
                sources.ignored.append(path)
            _add(header, str(path), path.parent, False, sources)


def _add(header: pydicom.Dataset | None, place: str, folder: Path, archive: bool, sources: Sources) -> None:
    """Add a DICOM object, or note that it is damaged. Nothing is done for None, a file that is not DICOM."""
    if header is not None and is_whole(header):
        sources.gatherer.add(header, place, folder, archive)
    elif header is not None:
        sources.break_file(folder, Path(place).name, _DAMAGED)


def _gather_archive(path: Path, sources: Sources) -> None:
    """Add the image files and DICOM objects in an archive."""
    try:
        names = {member.name for member in members(path) if not _is_hidden(member.name)}
        for member in members(path):
            if sources.stopping():
                raise Stopped
            if member.name in names:
                _gather_member(member, names, path, sources)
    except Stopped:
        raise
    except Encrypted:
        sources.broken[path] = Message("it is encrypted")
    except TooLarge:
        sources.broken[path] = Message("it holds more files or larger ones than an archive of studies does")
    except Exception:  # zipfile, tarfile and four decompressors raise errors of many kinds
        sources.broken[path] = Message("the archive is damaged")


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _gather_member(member: Member, names: set[str], path: Path, sources: Sources) -> None:
    lower = member.name.lower()
    if lower.endswith(EXTENSIONS):
        if not is_label_file(member.name, names):
            sources.images.append(ArchivedImage("", path, tuple(_with_voxels(member.name, names))))
    elif not lower.endswith("dicomdir"):
        try:
            header = member_header(member)
        except ImageError:
            sources.break_file(path, Path(member.name).name, _DAMAGED)
        else:
            if header is None and not lower.endswith(VOXEL_FILES):
                sources.ignored_members[path] += 1
            _add(header, member.name, path, True, sources)


def _with_voxels(name: str, names: Iterable[str]) -> Iterator[str]:
    """An image file, followed where it is only a header by the voxel files that it may mean.

    These are those of its own name, or else all in its folder: only the header itself tells which.
    """
    yield name
    if not name.lower().endswith(HEADERS):
        return
    folder, base = name.rpartition("/")[0], name[: name.rindex(".") + 1].lower()
    beside = [n for n in sorted(names) if n.rpartition("/")[0] == folder and n.lower().endswith(VOXEL_FILES)]
    yield from [n for n in beside if n.lower().startswith(base)] or beside
