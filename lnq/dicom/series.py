"""Gather DICOM series from files in any folders, and choose the axial CT of each study by rules.

A series is left out, with the reason, unless it is an axial CT of enough slices. One of a study's remaining series is
segmented. The user can name series instead.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom

from lnq.dicom.header import count_of, is_scout
from lnq.errors import Message, Words
from lnq.image.headers.layout import printable

LEAST_SLICES = 10
_AXIAL_COSINE = 0.9  # least cosine of the slices' normal with the patient's long axis: up to 26 degrees of tilt
_USUAL_MM = 3.0  # slice distance of the training data
_SAME_LENGTH = 0.9  # a scan of at least this fraction of the longest one counts as equally long


@dataclass
class Series:
    """The objects of one series, each once. Scout views are a series of their own."""

    uid: str
    study_uid: str
    folder: Path  # deepest folder that holds all of its files, or the path of their archive
    header: pydicom.Dataset  # of its first object
    archive: bool = False  # whether its files are members of an archive
    places: list[str] = field(default_factory=list)  # the files' paths, or their names in the archive
    positions_mm: list[tuple[float, ...]] = field(default_factory=list)  # ImagePositionPatient, where an object has it

    @property
    def study(self) -> str:
        """The identity of its study: the UID, or else the folder."""
        return self.study_uid or str(self.folder)

    def text(self, tag: str) -> str:
        """A tag's value as text, blank where it is missing."""
        return str(self.header.get(tag) or "")

    def normal(self) -> np.ndarray | None:
        """The slices' normal, a unit vector [3] in patient coordinates; None without a usable orientation."""
        try:
            cosines = np.array(self.header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        except (AttributeError, TypeError, ValueError):
            return None
        normal = np.cross(*cosines)
        length = float(np.linalg.norm(normal))
        return normal / length if length > 0.5 else None

    def slice_distance_mm(self) -> float:
        """Median distance of neighbouring slices; 0 where positions are missing."""
        normal = self.normal()
        if normal is None or len(self.positions_mm) < 2:
            return 0.0
        return float(np.median(np.diff(np.sort(np.array(self.positions_mm) @ normal))))

    def length_mm(self) -> float:
        """Length of the scan along its normal; 0 where it is not known."""
        return self.slice_distance_mm() * len(self.places)


@dataclass(frozen=True)
class Choice:
    """Which series are segmented. By default this is one suitable series per study."""

    uids: frozenset[str] = frozenset()  # series with these SeriesInstanceUIDs
    description: re.Pattern[str] | None = None  # series in whose SeriesDescription it is found
    every: bool = False  # all suitable series

    @property
    def by_name(self) -> bool:
        """Whether the user names the series. If so, the rules do not apply."""
        return bool(self.uids) or self.description is not None


ONE_PER_STUDY = Choice()


def read_uids(path: Path) -> frozenset[str]:
    """Read the column `series_uid` of a CSV file. Raises ValueError where file or column are missing or empty."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"The list of series {path} cannot be read: {error}") from None
    uids = frozenset((row.get("series_uid") or "").strip() for row in rows) - {""}
    if not uids:
        raise ValueError(f"The list of series {path} must have a column series_uid with at least one entry")
    return uids


def unsuitable(series: Series) -> Message | None:
    """The reason why a series is not a CT to segment, as the end of a sentence; None where it is one."""
    modality = series.text("Modality")
    if modality != "CT":
        return Message("it holds {modality} images, not a CT", modality=printable(modality, 20))
    if is_scout(series.header):
        return Message("its only CT images are scout views")
    if "SECONDARY" in series.text("ImageType").upper():
        return Message("it is a secondary capture or a reformatted series (ImageType SECONDARY)")
    normal = series.normal()
    if normal is not None and abs(normal[2]) < _AXIAL_COSINE:
        return Message("its slices are not axial")
    if len(series.places) < LEAST_SLICES and count_of(series.header, "NumberOfFrames") == 1:
        return Message("it has {slices} slices, fewer than {least}", slices=len(series.places), least=LEAST_SLICES)
    return None


def choose(candidates: Sequence[Series]) -> Series:
    """Choose the series to segment among a study's suitable series, of which there must be one.

    Only scans within a tenth of the longest one count. Among these the criteria are, in this order: contrast medium,
    the slice distance nearest to 3 mm (as a factor), the most slices, the lowest number, the lowest UID.
    """
    longest = max(s.length_mm() for s in candidates)
    long = [s for s in candidates if s.length_mm() >= _SAME_LENGTH * longest]
    return min(long, key=_rank)


def _rank(series: Series) -> tuple[bool, float, int, int, str]:
    distance = series.slice_distance_mm()
    factor = abs(np.log(distance / _USUAL_MM)) if distance > 0 else np.inf
    number = series.text("SeriesNumber")
    return (
        not series.text("ContrastBolusAgent"),
        round(float(factor), 2),
        -len(series.places),
        int(number) if number.lstrip("-").isdigit() else 0,
        series.uid,
    )


def select(gathered: Iterable[Series], choice: Choice) -> tuple[list[Series], list[tuple[Series, Message]]]:
    """Split series into those to segment and the others, each of these with the reason why not.

    The former keep the given order. All series of a study without a suitable one are among the others.
    """
    gathered = list(gathered)
    reasons: dict[int, Message] = {}
    if choice.by_name:
        for index, series in enumerate(gathered):
            description = series.text("SeriesDescription")
            named = series.uid in choice.uids or (choice.description and choice.description.search(description))
            if not named:
                reasons[index] = Message("it is not among the series asked for")
    else:
        reasons = {i: reason for i, series in enumerate(gathered) if (reason := unsuitable(series))}
        studies: dict[str, list[int]] = {}
        for index, series in enumerate(gathered):
            if index not in reasons:
                studies.setdefault(series.study, []).append(index)
        for indices in studies.values() if not choice.every else ():
            best = choose([gathered[i] for i in indices])
            for index in indices:
                if gathered[index] is not best:
                    reasons[index] = Message("series {uid} of the same study was chosen", uid=_shown(best.uid))
    chosen = [series for i, series in enumerate(gathered) if i not in reasons]
    return chosen, [(gathered[i], reason) for i, reason in reasons.items()]


def _shown(uid: str) -> str:
    """A UID for a message. A text that is not a valid UID could be anything, even a patient's name."""
    return Words(uid) if re.fullmatch(r"[0-9.]{1,64}", uid) else printable(uid, 64)


class Gatherer:
    """Collects objects into series. An object that comes twice counts once."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, bool], Series] = {}
        self._seen: set[tuple[str, str, str]] = set()

    def add(self, header: pydicom.Dataset, place: str, folder: Path, archive: bool = False) -> None:
        """Add an object by its header (tags of `OF_CHOICE`). `folder` is the file's folder, or the archive."""
        sop, uid = str(header.SOPInstanceUID), str(header.SeriesInstanceUID)
        # an anonymiser may give all objects, or one of each series, the same SOPInstanceUID
        object_key = (sop, uid, str(header.get("ImagePositionPatient")))
        if object_key in self._seen:
            return
        self._seen.add(object_key)
        key = (uid, str(folder) if archive else "", is_scout(header))
        series = self._series.get(key)
        if series is None:
            study = str(header.get("StudyInstanceUID") or "")
            series = self._series[key] = Series(uid, study, folder, header, archive)
        series.places.append(place)
        series.folder = common_folder(series.folder, folder)
        try:
            x, y, z = (float(v) for v in header.ImagePositionPatient)
        except (AttributeError, TypeError, ValueError):
            return
        if np.isfinite([x, y, z]).all():
            series.positions_mm.append((x, y, z))

    def all(self) -> list[Series]:
        """All series, in the order of their first objects."""
        return list(self._series.values())


def common_folder(one: Path, other: Path) -> Path:
    """The deepest folder that holds both paths, or is one of them."""
    if one == other or one in other.parents:
        return one
    return next(parent for parent in one.parents if parent == other or parent in other.parents)
