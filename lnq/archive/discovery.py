"""Find the CTs under what a user points at: image files, DICOM series, and either of them in zip archives."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnq.archive.case import ArchivedSeries, Case, DicomSeries, MissingSeries, Subject, name_cases
from lnq.archive.gather import Sources, gather
from lnq.archive.members import ARCHIVES
from lnq.dicom.choice import ONE_PER_STUDY, Choice, Selected, select
from lnq.dicom.series import Series
from lnq.errors import Message, StartError, Words
from lnq.image.names import EXTENSIONS

_NO_IMAGES = frozenset({"SR", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "PR", "KO", "DOC", "REG", "FID", "OT"})
_FORMATS = f"{', '.join(EXTENSIONS)} files, DICOM series or {', '.join(ARCHIVES)} archives of them"


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
    after: str | None = None  # place of the case of the same study that it stands in for where that one fails

    def explained(self, case: Subject) -> SetAside:
        """A copy for `case`, which has its name, with the reason as a whole sentence."""
        verb = Words("cannot be used" if self.failed else "is left out")
        sentence = Message("{subject} {verb}: {reason}", subject=case.path.name, verb=verb, reason=self.reason)
        return dataclasses.replace(self, case=case, reason=sentence)


Found = ToSegment | SetAside


def discover(
    inputs: Sequence[Path],
    choice: Choice = ONE_PER_STUDY,
    leave_out: Path | None = None,
    key: str = "",
    reserved: Sequence[str] = (),
    stopping: Callable[[], bool] = lambda: False,
) -> list[Found]:
    """Find image files and the chosen DICOM series under `inputs`, and what is set aside. Skips all below `leave_out`.

    Where the user names series, only these are segmented, and no image files. Label files of the challenge's data
    (`x-seg.nrrd` beside `x-ct.nrrd`) are not cases. No case gets a name among `reserved`. With a `key` (hex), names are
    keyed digests. Raises StartError where an input does not exist, or where nothing is found to segment or to report as
    failed. Raises Stopped once `stopping` returns true.
    """
    seen = {leave_out.resolve()} if leave_out is not None else set()
    sources = Sources(seen=seen, stopping=stopping)
    for given in inputs:
        if not given.exists():
            raise StartError(f"{given} does not exist: check the path")
        gather(given.parent if given.name.upper() == "DICOMDIR" and given.is_file() else given, sources)
    gathered = sources.gatherer.all()
    selection = select(gathered, choice)
    chosen = selection.chosen
    found: list[Found] = [] if choice.by_name else [ToSegment(case) for case in sources.images]
    found += [_chosen(series, selection, sources.broken) for series in chosen]
    found += _broken(sources.broken, chosen) + _not_chosen(selection, choice)
    found += _ignored(sources, inputs)
    found += [copies for series in gathered for copies in _copies(series)]
    if choice.uids and chosen:
        missing = sorted(choice.uids - {series.uid for series in chosen})
        found += [SetAside(MissingSeries("", Path(uid)), Message("it was not found"), True) for uid in missing]
    if not (chosen if choice.by_name else any(isinstance(f, ToSegment) or f.failed for f in found)):
        raise StartError(_nothing(inputs, choice))
    return _named(found, key, reserved)


def _named(found: Sequence[Found], key: str, reserved: Sequence[str]) -> list[Found]:
    """Name everything: first the cases to segment, then what failed, then what is left out."""
    cases = name_cases([dataclasses.replace(f.case, key=key) for f in found if isinstance(f, ToSegment)], reserved)
    aside = sorted((f for f in found if isinstance(f, SetAside)), key=lambda f: not f.failed)  # sorting is stable
    subjects = [dataclasses.replace(f.case, key=key) for f in aside]
    rest = name_cases(subjects, [*reserved, *(case.name for case in cases)])
    return [*map(ToSegment, cases), *(f.explained(case) for f, case in zip(aside, rest, strict=True))]


def _case(series: Series, why: Message | None = None) -> DicomSeries | ArchivedSeries:
    chosen = "" if why is None else str(why)
    if series.archive:
        return ArchivedSeries("", series.folder, tuple(series.places), series.uid, chosen=chosen)
    return DicomSeries("", series.folder, tuple(map(Path, series.places)), series.uid, chosen=chosen)


def _chosen(series: Series, selection: Selected, broken: Mapping[Path, Message]) -> Found:
    """A series to segment; set aside where a file beside its own is damaged, as that may be one of its slices."""
    folders = {series.folder} if series.archive else {Path(place).parent for place in series.places}
    fault = next((broken[folder] for folder in folders if folder in broken), None)
    case = _case(series, selection.because(series))
    return ToSegment(case) if fault is None else SetAside(case, fault, failed=True)


def _broken(broken: dict[Path, Message], chosen: Sequence[Series]) -> list[Found]:
    """Damaged files and archives that belong to no chosen series."""
    told = {Path(place).parent for series in chosen for place in series.places} | {s.folder for s in chosen}
    return [SetAside(Subject("", path), reason, True) for path, reason in broken.items() if path not in told]


def _not_chosen(selection: Selected, choice: Choice) -> list[Found]:
    """The series that were not chosen, one by one. A study with images but no usable CT becomes one failure."""
    usable = {series.study for series in selection.chosen}
    after = {id(later): first for ranked in selection.ranked for first, later in itertools.pairwise(ranked)}
    found: list[Found] = []
    without: dict[tuple[str, ...], list[tuple[Series, Message]]] = {}
    for series, reason in selection.others:
        if choice.by_name or series.study in usable or not _has_image(series):
            before = after.get(id(series))
            found.append(SetAside(_case(series), reason, after=_case(before).place if before else None))
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


def _ignored(sources: Sources, inputs: Sequence[Path]) -> list[Found]:
    """Files of no known kind: those that the user named, one by one, and the number of the others in each folder."""
    named = {given.parent.resolve() / given.name for given in inputs}
    unknown = Message("its format is not known: give {formats}", formats=Words(_FORMATS))
    found: list[Found] = [SetAside(Subject("", path), unknown, True) for path in sources.ignored if path in named]
    counts = Counter(path.parent for path in sources.ignored if path not in named) + sources.ignored_members
    for place, count in counts.items():
        reason = Message("{count} of its files are of no known format, and ignored", count=count)
        found.append(SetAside(Subject("", place), reason))
    return found


def _nothing(inputs: Sequence[Path], choice: Choice) -> str:
    names = ", ".join(str(given) for given in inputs)
    if choice.by_name:
        return f"None of the series asked for was found in {names}"
    return f"No CT found in {names}: give {_FORMATS}"
