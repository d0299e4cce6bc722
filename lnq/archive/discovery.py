"""Find the CTs under what a user points at: image files, DICOM series, and either within zip archives."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from lnq.archive.case import ARCHIVE, Case, name_cases
from lnq.dicom.read import is_whole, parse_header, read_header
from lnq.dicom.series import HEADER_TAGS, ONE_PER_STUDY, Choice, Gatherer, Series, select
from lnq.errors import ImageError, StartError, Stopped
from lnq.image.names import EXTENSIONS, VOXEL_FILES, is_label_file

_NO_IMAGES = frozenset({"SR", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "PR", "KO", "DOC", "REG", "FID", "OT"})
_HEADER_BYTES = (2**16, 2**24)  # of a member that are read for its header, and more where that is too little
_PREAMBLE_BYTES = 132  # the last four are "DICM"


@dataclass(frozen=True)
class Found:
    """A case, and where it is not segmented the reason."""

    case: Case
    reason: str | None = None  # one sentence
    failed: bool = False  # it should have been segmented


@dataclass
class _Sources:
    """What lies under the inputs, before anything is chosen."""

    images: list[Case] = field(default_factory=list)
    gatherer: Gatherer = field(default_factory=Gatherer)
    broken: dict[Path, str] = field(default_factory=dict)  # folder or archive: what is wrong there
    seen: set[Path] = field(default_factory=set)  # so that links that lead back end, and nothing is found twice
    private: bool = False  # tell no file's name
    stopping: Callable[[], bool] = lambda: False

    def break_folder(self, folder: Path, name: str, problem: str) -> None:
        """Note that a file, or the folder itself, cannot be used."""
        what = "one of its files" if self.private else f"its file {name}"
        self.broken[folder] = f"{what} {problem}" if name else f"it {problem}"


def discover(
    inputs: Sequence[Path],
    choice: Choice = ONE_PER_STUDY,
    leave_out: Path | None = None,
    hash_names: bool = False,
    reserved: Sequence[str] = (),
    stopping: Callable[[], bool] = lambda: False,
) -> list[Found]:
    """What is under `inputs`, but not below `leave_out`: image files, chosen DICOM series, and what is not segmented.

    Where series are named by the user only these are segmented, and no image files. Label files of the challenge's
    data (`x-seg.nrrd` beside `x-ct.nrrd`) are no cases. No case gets a name among `reserved`. Raises StartError where
    an input does not exist or there is nothing to segment or to complain of, Stopped when `stopping` says so.
    """
    seen = {leave_out.resolve()} if leave_out is not None else set()
    sources = _Sources(seen=seen, private=hash_names, stopping=stopping)
    for given in inputs:
        if not given.exists():
            raise StartError(f"{given} does not exist: check the path")
        _gather(given, sources)
    chosen, others = select(sources.gatherer.all(), choice)
    found = [] if choice.by_name else [Found(case) for case in sources.images]
    found += [_chosen(series, sources.broken) for series in chosen]
    found += _broken(sources.broken, chosen) + _not_chosen(chosen, others, choice)
    if choice.uids and chosen:
        missing = sorted(choice.uids - {series.uid for series in chosen})
        found += [Found(Case("", Path(uid), dicom=True, series_uid=uid), "it was not found", True) for uid in missing]
    found.sort(key=lambda f: (f.reason is not None, not f.failed))  # stable: segmented, failed, left out
    if not (chosen if choice.by_name else any(f.failed or f.reason is None for f in found)):
        raise StartError(_nothing(inputs, choice))
    named = name_cases([f.case for f in found if f.reason is None], hash_names, reserved)
    rest = [f.case for f in found if f.reason is not None]
    named += name_cases(rest, hash_names, [*reserved, *(case.name for case in named)])
    return [_explained(f, case) for f, case in zip(found, named, strict=True)]


def _case(series: Series) -> Case:
    return Case("", series.folder, tuple(series.places), dicom=True, series_uid=series.uid)


def _chosen(series: Series, broken: dict[Path, str]) -> Found:
    """A series to segment, unless a file beside its own is damaged: it may be one of its slices."""
    folders = {series.folder} if series.archive else {Path(place).parent for place in series.places}
    fault = next((broken[folder] for folder in folders if folder in broken), None)
    return Found(_case(series), fault, failed=fault is not None)


def _broken(broken: dict[Path, str], chosen: Sequence[Series]) -> list[Found]:
    """What is damaged and belongs to no chosen series."""
    told = {Path(place).parent for series in chosen for place in series.places} | {s.folder for s in chosen}
    return [Found(Case("", path), reason, failed=True) for path, reason in broken.items() if path not in told]


def _not_chosen(chosen: Sequence[Series], others: Sequence[tuple[Series, str]], choice: Choice) -> list[Found]:
    """Other series, one by one; of a study with images but no usable CT, one failure."""
    usable = {series.study for series in chosen}
    found, without = [], dict[str, list[tuple[Series, str]]]()
    for series, reason in others:
        if choice.by_name or series.study in usable or series.text("Modality") in _NO_IMAGES:
            found.append(Found(_case(series), reason))
        else:
            without.setdefault(series.study, []).append((series, reason))
    for group in without.values():
        reasons = dict.fromkeys(reason for _, reason in group)
        found.append(Found(_case(group[0][0]), ", ".join(reasons), failed=True))
    return found


def _explained(found: Found, case: Case) -> Found:
    """With the case's name, in the reason too."""
    if found.reason is None:
        return Found(case)
    verb = "cannot be used" if found.failed else "is left out"
    return Found(case, f"{case.path.name} {verb}: {found.reason}", found.failed)


def _nothing(inputs: Sequence[Path], choice: Choice) -> str:
    names = ", ".join(str(given) for given in inputs)
    if choice.by_name:
        return f"None of the series asked for was found in {names}"
    return f"No CT found in {names}: give {', '.join(EXTENSIONS)} files, DICOM series or {ARCHIVE} archives of them"


def _gather(path: Path, sources: _Sources) -> None:
    """Add what `path` is, or holds, to the sources."""
    if sources.stopping():
        raise Stopped
    try:
        resolved = path.resolve()
        is_folder = path.is_dir()
        if resolved in sources.seen or not (is_folder or path.is_file() or path.is_symlink()):
            return  # pipes and devices are nothing to read
        sources.seen.add(resolved)
        entries = sorted(path.iterdir()) if is_folder else []
    except (OSError, RuntimeError) as error:  # the latter for a link to itself
        reason = error.strerror if isinstance(error, OSError) else "the link leads to itself"
        sources.break_folder(path, "", f"cannot be read: {reason}")
        return
    names = {entry.name for entry in entries}
    for entry in entries:
        if not entry.name.startswith(".") and not is_label_file(entry.name, names):
            _gather(entry, sources)
    if not is_folder:
        _gather_file(resolved, sources)


def _gather_file(path: Path, sources: _Sources) -> None:
    if path.name.lower().endswith(EXTENSIONS):
        sources.images.append(Case("", path))
    elif path.name.lower().endswith(ARCHIVE):
        _gather_archive(path, sources)
    elif path.name.upper() != "DICOMDIR":
        try:
            with path.open("rb") as file:
                is_dicom = _is_dicom(file.read(_PREAMBLE_BYTES))
            header = read_header(path, HEADER_TAGS) if is_dicom else None
        except OSError as error:
            sources.break_folder(path.parent, path.name, f"cannot be read: {error.strerror}")
        except ImageError:
            sources.break_folder(path.parent, path.name, "is damaged")
        else:
            _add(header, str(path), path.parent, False, sources)


def _is_dicom(start: bytes) -> bool:
    return start[_PREAMBLE_BYTES - 4 : _PREAMBLE_BYTES] == b"DICM"


def _add(header: pydicom.Dataset | None, place: str, folder: Path, archive: bool, sources: _Sources) -> None:
    """Add a DICOM object, or note that it is damaged; None is no DICOM."""
    if header is not None and is_whole(header):
        sources.gatherer.add(header, place, folder, archive)
    elif header is not None:
        sources.break_folder(folder, Path(place).name, "is damaged")


def _gather_archive(path: Path, sources: _Sources) -> None:
    """Add the image files and DICOM objects within an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not _is_hidden(m.filename)]
            if any(m.flag_bits & 1 for m in members):
                sources.broken[path] = "it is encrypted"
                return
            names = {m.filename for m in members}
            for name in sorted(names):
                if sources.stopping():
                    raise Stopped
                _gather_member(archive, name, names, path, sources)
    except Stopped:
        raise
    except Exception:  # zipfile's own and those of four decompressors
        sources.broken[path] = "the archive is damaged"


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _gather_member(archive: zipfile.ZipFile, name: str, names: set[str], path: Path, sources: _Sources) -> None:
    lower = name.lower()
    if lower.endswith(EXTENSIONS):
        if not is_label_file(name, names):
            sources.images.append(Case("", path, tuple(_with_voxels(name, names))))
    elif not lower.endswith((ARCHIVE, "dicomdir")):
        try:
            header = _member_header(archive, name)
        except ImageError:
            sources.break_folder(path, Path(name).name, "is damaged")
        else:
            _add(header, name, path, True, sources)


def _with_voxels(name: str, names: Iterable[str]) -> Iterator[str]:
    """An image file and, where it is a header alone, the voxel files beside it."""
    yield name
    base = name[: name.rindex(".") + 1].lower()
    yield from (n for n in sorted(names) if n.lower().startswith(base) and n.lower().endswith(VOXEL_FILES))


def _member_header(archive: zipfile.ZipFile, name: str) -> pydicom.Dataset | None:
    """The DICOM header of a member; None where it is no DICOM file. Raises ImageError where it is damaged."""
    data = b""
    with archive.open(name) as member:
        for size in _HEADER_BYTES:
            data += member.read(size - len(data))
            if not _is_dicom(data):
                return None
            try:
                header = parse_header(io.BytesIO(data), HEADER_TAGS)
            except Exception:  # cut off before the pixels, or damaged: pydicom's errors are of many kinds
                continue
            if is_whole(header):
                return header
    raise ImageError(f"its file {Path(name).name} is damaged")
