"""Find the CTs under what a user points at: image files, DICOM series, and either within zip archives."""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from lnq.cases import ARCHIVE, EXTENSIONS, VOXEL_FILES, Case, StartError, is_label_file, name_cases
from lnq.dicom import is_dicom_file, read_header
from lnq.series import HEADER_TAGS, ONE_PER_STUDY, Choice, Gatherer, Series, select
from lnq.volume import ImageError

_NO_IMAGES = frozenset({"SR", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "PR", "KO", "DOC", "REG", "FID", "OT"})
_HEADER_BYTES = 2**16  # of a member are read for its header; all of it where that is too little

logger = logging.getLogger(__name__)


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


def discover(
    inputs: Sequence[Path],
    choice: Choice = ONE_PER_STUDY,
    leave_out: Path | None = None,
    hash_names: bool = False,
    reserved: Sequence[str] = (),
) -> list[Found]:
    """What is under `inputs`, but not below `leave_out`: image files, chosen DICOM series, and what is not segmented.

    Where series are named by the user only these are segmented, and no image files. Label files of the challenge's
    data (`x-seg.nrrd` beside `x-ct.nrrd`) are no cases. No case gets a name among `reserved`. Raises StartError where
    an input does not exist or there is nothing to segment or to complain of.
    """
    sources = _Sources(seen={leave_out.resolve()} if leave_out is not None else set())
    for given in inputs:
        if not given.exists():
            raise StartError(f"{given} does not exist: check the path")
        _gather(given, sources)
    chosen, others = select(sources.gatherer.all(), choice)
    found = [] if choice.by_name else [Found(case) for case in sources.images]
    found += [_chosen(series, sources.broken) for series in chosen]
    found += _broken(sources.broken, chosen) + _not_chosen(chosen, others, choice)
    found.sort(key=lambda f: (f.reason is not None, not f.failed))  # stable: segmented, failed, left out
    if not any(f.failed or f.reason is None for f in found):
        raise StartError(_nothing(inputs, choice))
    named = name_cases([f.case for f in found if f.reason is None], hash_names, reserved)
    rest = [f.case for f in found if f.reason is not None]
    named += name_cases(rest, hash_names, [*reserved, *(case.name for case in named)])
    return [_explained(f, case) for f, case in zip(found, named, strict=True)]


def _case(series: Series) -> Case:
    return Case("", series.folder, tuple(series.places), dicom=True, series_uid=series.uid or None)


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
    resolved = path.resolve()
    if resolved in sources.seen:
        return
    sources.seen.add(resolved)
    if path.is_dir():
        try:
            entries = sorted(path.iterdir())
        except OSError as error:
            logger.warning(f"{path} is left out: {error.strerror}")
            return
        names = {entry.name for entry in entries}
        for entry in entries:
            if not entry.name.startswith(".") and not is_label_file(entry.name, names):
                _gather(entry, sources)
    elif path.name.lower().endswith(EXTENSIONS):
        sources.images.append(Case("", resolved))
    elif path.name.lower().endswith(ARCHIVE):
        _gather_archive(resolved, sources)
    elif is_dicom_file(path) and path.name.upper() != "DICOMDIR":
        try:
            header = read_header(resolved, HEADER_TAGS)
        except ImageError as error:
            sources.broken[resolved.parent] = str(error)
            return
        if header.get("SOPInstanceUID"):
            sources.gatherer.add(header, str(resolved), resolved.parent)
        else:
            sources.broken[resolved.parent] = f"its file {path.name} is damaged"


def _gather_archive(path: Path, sources: _Sources) -> None:
    """Add the image files and DICOM objects within an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not _is_hidden(m.filename)]
            if any(m.flag_bits & 1 for m in members):
                raise ImageError("it is encrypted")
            names = {m.filename for m in members}
            for member in sorted(members, key=lambda m: m.filename):
                _gather_member(archive, member.filename, names, path, sources)
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, EOFError, ImageError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"the archive is damaged ({error})"
        sources.broken[path] = reason


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _gather_member(archive: zipfile.ZipFile, name: str, names: set[str], path: Path, sources: _Sources) -> None:
    lower = name.lower()
    if lower.endswith(EXTENSIONS):
        if not is_label_file(name, names):
            sources.images.append(Case("", path, tuple(_with_voxels(name, names))))
    elif not lower.endswith(ARCHIVE):
        header = _member_header(archive, name)
        if header is not None:
            sources.gatherer.add(header, name, path, archive=True)


def _with_voxels(name: str, names: Iterable[str]) -> Iterator[str]:
    """An image file and, where it is a header alone, the voxel files beside it."""
    yield name
    base = name[: name.rindex(".") + 1].lower()
    yield from (n for n in sorted(names) if n.lower().startswith(base) and n.lower().endswith(VOXEL_FILES))


def _member_header(archive: zipfile.ZipFile, name: str) -> pydicom.Dataset | None:
    """The DICOM header of a member; None where it is no DICOM file. Raises ImageError where it is damaged."""
    with archive.open(name) as member:
        start = member.read(_HEADER_BYTES)
        if start[128:132] != b"DICM" or name.upper().endswith("DICOMDIR"):
            return None
        for data in (start, start + member.read()):
            try:
                header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
            except (InvalidDicomError, OSError, ValueError, EOFError):
                continue
            if header.get("SOPInstanceUID"):
                return header
    raise ImageError(f"its file {name.rsplit('/', 1)[-1]} is damaged")
