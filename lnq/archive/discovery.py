"""Find the CTs under what a user points at: image files, DICOM series, and either of them in zip archives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from lnq.archive.case import (
    ArchivedImage,
    ArchivedSeries,
    Case,
    DicomSeries,
    ImageFile,
    MissingSeries,
    Subject,
    name_cases,
)
from lnq.archive.copies import same_pixels
from lnq.archive.members import ARCHIVES, Encrypted, Member, is_archive, member_header, members
from lnq.dicom.choice import ONE_PER_STUDY, Choice, select
from lnq.dicom.header import find_header, is_whole
from lnq.dicom.series import Gatherer, Series
from lnq.errors import ImageError, Message, StartError, Stopped, Words
from lnq.image.names import EXTENSIONS, VOXEL_FILES, is_label_file

_NO_IMAGES = frozenset({"SR", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "PR", "KO", "DOC", "REG", "FID", "OT"})


_FORMATS = f"{', '.join(EXTENSIONS)} files, DICOM series or {', '.join(ARCHIVES)} archives of them"
_DAMAGED = Message("is damaged")


@dataclass(frozen=True)
class ToSegment:
    """A case to segment."""

    case: Case


@dataclass(frozen=True)
class SetAside:
    """Something that is not segmented, and the reason."""

    case: Subject
    reason: Message  # the end of a sentence; a whole sentence once `explained`
    failed: bool = False  # whether it should have been segmented

    def explained(self, case: Subject) -> SetAside:
        """A copy for `case`, which has its name, with the reason as a whole sentence."""
        verb = Words("cannot be used" if self.failed else "is left out")
        sentence = Message("{subject} {verb}: {reason}", subject=case.path.name, verb=verb, reason=self.reason)
        return SetAside(case, sentence, self.failed)


Found = ToSegment | SetAside


@dataclass
class _Sources:
    """Everything under the inputs, before a choice is made."""

    images: list[ImageFile | ArchivedImage] = field(default_factory=list)
    gatherer: Gatherer = field(default_factory=lambda: Gatherer(same_pixels))
    broken: dict[Path, Message] = field(default_factory=dict)  # what is wrong, by folder or archive
    seen: set[Path] = field(default_factory=set)  # resolved paths: circular links end, nothing is found twice
    ignored: list[Path] = field(default_factory=list)  # files of no known kind
    stopping: Callable[[], bool] = lambda: False

    def break_file(self, folder: Path, name: str, problem: Message) -> None:
        """Note that a file of a folder or an archive cannot be used."""
        self.broken[folder] = Message("its file {file} {problem}", file=name, problem=problem)


def discover(
    inputs: Sequence[Path],
    choice: Choice = ONE_PER_STUDY,
    leave_out: Path | None = None,
    hash_names: bool = False,
    reserved: Sequence[str] = (),
    stopping: Callable[[], bool] = lambda: False,
) -> list[Found]:
    """Find image files and the chosen DICOM series under `inputs`, and what is set aside. Skips all below `leave_out`.

    Where the user names series, only these are segmented, and no image files. Label files of the challenge's data
    (`x-seg.nrrd` beside `x-ct.nrrd`) are not cases. No case gets a name among `reserved`. Raises StartError where an
    input does not exist, or where nothing is found to segment or to report as failed. Raises Stopped once `stopping`
    returns true.
    """
    seen = {leave_out.resolve()} if leave_out is not None else set()
    sources = _Sources(seen=seen, stopping=stopping)
    for given in inputs:
        if not given.exists():
            raise StartError(f"{given} does not exist: check the path")
        _gather(given.parent if given.name.upper() == "DICOMDIR" and given.is_file() else given, sources)
    gathered = sources.gatherer.all()
    chosen, others = select(gathered, choice)
    found: list[Found] = [] if choice.by_name else [ToSegment(case) for case in sources.images]
    found += [_chosen(series, sources.broken) for series in chosen]
    found += _broken(sources.broken, chosen) + _not_chosen(chosen, others, choice)
    found += _ignored(sources.ignored, inputs)
    found += [copies for series in gathered for copies in _copies(series)]
    if choice.uids and chosen:
        missing = sorted(choice.uids - {series.uid for series in chosen})
        found += [SetAside(MissingSeries("", Path(uid)), Message("it was not found"), True) for uid in missing]
    if not (chosen if choice.by_name else any(isinstance(f, ToSegment) or f.failed for f in found)):
        raise StartError(_nothing(inputs, choice))
    return _named(found, hash_names, reserved)


def _named(found: Sequence[Found], hash_names: bool, reserved: Sequence[str]) -> list[Found]:
    """Name everything: first the cases to segment, then what failed, then what is left out."""
    cases = name_cases([f.case for f in found if isinstance(f, ToSegment)], hash_names, reserved)
    aside = sorted((f for f in found if isinstance(f, SetAside)), key=lambda f: not f.failed)  # sorting is stable
    rest = name_cases([f.case for f in aside], hash_names, [*reserved, *(case.name for case in cases)])
    return [*map(ToSegment, cases), *(f.explained(case) for f, case in zip(aside, rest, strict=True))]


def _case(series: Series) -> DicomSeries | ArchivedSeries:
    if series.archive:
        return ArchivedSeries("", series.folder, tuple(series.places), series.uid)
    return DicomSeries("", series.folder, tuple(map(Path, series.places)), series.uid)


def _chosen(series: Series, broken: dict[Path, Message]) -> Found:
    """A series to segment; set aside where a file beside its own is damaged, as that may be one of its slices."""
    folders = {series.folder} if series.archive else {Path(place).parent for place in series.places}
    fault = next((broken[folder] for folder in folders if folder in broken), None)
    return ToSegment(_case(series)) if fault is None else SetAside(_case(series), fault, failed=True)


def _broken(broken: dict[Path, Message], chosen: Sequence[Series]) -> list[Found]:
    """Damaged files and archives that belong to no chosen series."""
    told = {Path(place).parent for series in chosen for place in series.places} | {s.folder for s in chosen}
    return [SetAside(Subject("", path), reason, True) for path, reason in broken.items() if path not in told]


def _not_chosen(chosen: Sequence[Series], others: Sequence[tuple[Series, Message]], choice: Choice) -> list[Found]:
    """The series that were not chosen, one by one. A study with images but no usable CT becomes one failure."""
    usable = {series.study for series in chosen}
    found: list[Found] = []
    without: dict[tuple[str, ...], list[tuple[Series, Message]]] = {}
    for series, reason in others:
        if choice.by_name or series.study in usable or not _has_image(series):
            found.append(SetAside(_case(series), reason))
        else:
            without.setdefault(series.study, []).append((series, reason))
    for group in without.values():
        reasons = {str(reason): reason for _, reason in group}
        found.append(SetAside(_case(group[0][0]), Message.listed(reasons.values()), failed=True))
    return found


def _has_image(series: Series) -> bool:
    return bool(series.text("Rows")) and series.text("Modality") not in _NO_IMAGES


def _copies(series: Series) -> list[Found]:
    """A series' objects that are further copies of its others."""
    if not series.copies:
        return []
    folder = series.folder if series.archive else Path(series.copies[0]).parent
    reason = Message("{count} of its files are copies of others of the same series", count=len(series.copies))
    return [SetAside(Subject("", folder), reason)]


def _ignored(files: Sequence[Path], inputs: Sequence[Path]) -> list[Found]:
    """Files of no known kind: those that the user named, one by one, and the number of the others in each folder."""
    named = {given.parent.resolve() / given.name for given in inputs}
    unknown = Message("its format is not known: give {formats}", formats=Words(_FORMATS))
    found: list[Found] = [SetAside(Subject("", path), unknown, True) for path in files if path in named]
    for folder, count in Counter(path.parent for path in files if path not in named).items():
        reason = Message("{count} of its files are of no known format, and ignored", count=count)
        found.append(SetAside(Subject("", folder), reason))
    return found


def _nothing(inputs: Sequence[Path], choice: Choice) -> str:
    names = ", ".join(str(given) for given in inputs)
    if choice.by_name:
        return f"None of the series asked for was found in {names}"
    return f"No CT found in {names}: give {_FORMATS}"


def _gather(path: Path, sources: _Sources) -> None:
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
            _gather(entry, sources)
    if not is_folder:
        _gather_file(path.parent.resolve() / path.name, sources)


def _gather_file(path: Path, sources: _Sources) -> None:
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


def _add(header: pydicom.Dataset | None, place: str, folder: Path, archive: bool, sources: _Sources) -> None:
    """Add a DICOM object, or note that it is damaged. Nothing is done for None, a file that is not DICOM."""
    if header is not None and is_whole(header):
        sources.gatherer.add(header, place, folder, archive)
    elif header is not None:
        sources.break_file(folder, Path(place).name, _DAMAGED)


def _gather_archive(path: Path, sources: _Sources) -> None:
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
    except Exception:  # zipfile, tarfile and four decompressors raise errors of many kinds
        sources.broken[path] = Message("the archive is damaged")


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _gather_member(member: Member, names: set[str], path: Path, sources: _Sources) -> None:
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
            _add(header, member.name, path, True, sources)


def _with_voxels(name: str, names: Iterable[str]) -> Iterator[str]:
    """An image file, followed by the voxel files beside it where it is only a header."""
    yield name
    base = name[: name.rindex(".") + 1].lower()
    yield from (n for n in sorted(names) if n.lower().startswith(base) and n.lower().endswith(VOXEL_FILES))
