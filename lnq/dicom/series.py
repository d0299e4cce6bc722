"""Gather DICOM objects from files in any folders into series.

No single UID is taken for identity, because anonymisers and archives reuse them. A series is what has one patient,
study, series UID, modality and kind of object, and one slice geometry. The same object is the same UID at the same
position with the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom

from lnq.dicom.header import OF_PATIENT, OF_STACK, count_of, kind_of, raw_text, value_of
from lnq.dicom.stacks import Instance, merge_single, split_stacks

_SAME_COSINE = 0.02  # largest difference of direction cosines within a series: over a degree
_SAME_SPACING = 0.01  # largest relative difference of pixel spacings within a series


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
    patient: tuple[str, ...] = ()  # what tells its patient from others
    kind: str = "ct"  # see `lnq.dicom.header.kind_of`
    copies: list[str] = field(default_factory=list)  # places of further copies of its objects
    apart: str = ""  # its folder, where nothing else tells it from another stack of the same UIDs
    part: int = 0  # number of this stack where the series holds several, from 1; 0 where it is one

    @property
    def study(self) -> tuple[str, ...]:
        """The identity of its study: patient and UID, or else the folder."""
        return (*self.patient, self.study_uid or str(self.folder))

    def join(self, other: Series) -> None:
        """Add the objects of another series."""
        self.folder = common_folder(self.folder, other.folder)
        self.places += other.places
        self.positions_mm += other.positions_mm
        self.copies += other.copies

    def text(self, tag: str) -> str:
        """A tag's value as text, blank where it is missing or damaged."""
        return str(value_of(self.header, tag) or "")

    def normal(self) -> np.ndarray | None:
        """The slices' normal, a unit vector [3] in patient coordinates; None without a usable orientation."""
        cosines = _numbers(self.header, "ImageOrientationPatient", 6)
        if cosines is None:
            return None
        normal = np.cross(cosines[:3], cosines[3:])
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


@dataclass
class _Group:
    """Objects of one series, kind and slice geometry."""

    archive: str  # the path of the archive that holds them, or blank
    cosines: np.ndarray | None
    spacing: np.ndarray | None
    headers: dict[tuple[str, ...], pydicom.Dataset] = field(default_factory=dict)  # one for each `Instance.protocol`
    objects: list[Instance] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    seen: dict[tuple[str, tuple[float, ...]], list[Instance]] = field(default_factory=dict)

    def like(self, cosines: np.ndarray | None, spacing: np.ndarray | None) -> bool:
        """Whether slices with these direction cosines and pixel spacing belong to it."""
        return _near(self.cosines, cosines, _SAME_COSINE, False) and _near(self.spacing, spacing, _SAME_SPACING, True)

    def series(self, objects: list[Instance], part: int = 0, by_folder: bool = False) -> Series:
        """The series of some of the objects: number `part` of several, which may be told apart by their folders."""
        folder = objects[0].folder
        for one in objects[1:]:
            folder = common_folder(folder, one.folder)
        header = self.headers[min(one.protocol for one in objects)]
        return Series(
            raw_text(header, "SeriesInstanceUID"),
            raw_text(header, "StudyInstanceUID"),
            folder,
            header,
            bool(self.archive),
            [one.place for one in objects],
            [one.position_mm for one in objects if one.position_mm],
            _patient(header),
            kind_of(header),
            apart=str(folder) if by_folder else "",
            part=part,
        )


SamePixels = Callable[[Instance, Instance], bool]
"""Whether two objects of the same UID and position are copies of each other."""


class Gatherer:
    """Collects objects into series. An object that comes twice counts once.

    `same_pixels` is asked about objects that agree in UID and position. By default they are copies.
    """

    def __init__(self, same_pixels: SamePixels = lambda one, other: True) -> None:
        self._groups: dict[tuple[str, ...], list[_Group]] = {}
        self._same_pixels = same_pixels

    def add(self, header: pydicom.Dataset, place: str, folder: Path, archive: bool = False) -> None:
        """Add an object by its header (tags of `OF_CHOICE` and `OF_GATHERING`).

        `folder` is the file's folder, or the archive.
        """
        inside, series = str(folder) if archive else "", raw_text(header, "SeriesInstanceUID") or str(folder)
        told = (raw_text(header, tag) for tag in ("StudyInstanceUID", "Modality", "Rows", "Columns", "NumberOfFrames"))
        key = (inside, series, kind_of(header), *_patient(header), *told)
        cosines, spacing = _numbers(header, "ImageOrientationPatient", 6), _numbers(header, "PixelSpacing", 2)
        groups = self._groups.setdefault(key, [])
        group = next((g for g in groups if g.like(cosines, spacing)), None)
        if group is None:
            group = _Group(inside, cosines, spacing)
            groups.append(group)
        self._add(group, header, place, folder)

    def _add(self, group: _Group, header: pydicom.Dataset, place: str, folder: Path) -> None:
        position = _numbers(header, "ImagePositionPatient", 3)
        placed = () if position is None else tuple(map(float, position))
        marks = tuple(raw_text(header, tag) for tag in OF_STACK)
        one = Instance(place, folder, group.archive, placed, marks, count_of(header, "InstanceNumber"))
        group.headers.setdefault(one.protocol, header)
        uid = raw_text(header, "SOPInstanceUID") or place
        before = group.seen.setdefault((uid, placed), [])
        if any(self._same_pixels(other, one) for other in before):
            group.copies.append(place)
            return
        before.append(one)
        group.objects.append(one)

    def all(self) -> list[Series]:
        """All series, in the order of their first objects."""
        found = []
        for group in (group for groups in self._groups.values() for group in groups):
            stacks, by_folder = split_stacks(group.objects)
            parts = [group.series(stack, n if len(stacks) > 1 else 0, by_folder) for n, stack in enumerate(stacks, 1)]
            parts[0].copies = group.copies
            found += parts
        return merge_single(found)


def _patient(header: pydicom.Dataset) -> tuple[str, ...]:
    return tuple(raw_text(header, tag).strip("^ ").casefold() for tag in OF_PATIENT)


def _numbers(header: pydicom.Dataset, tag: str, count: int) -> np.ndarray | None:
    """A tag's numbers, float64; None where it does not hold exactly `count` finite ones."""
    try:
        numbers = np.array(raw_text(header, tag).split("\\"), dtype=np.float64)
    except ValueError:
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _near(one: np.ndarray | None, other: np.ndarray | None, most: float, relative: bool) -> bool:
    if one is None or other is None:
        return one is other
    return bool((np.abs(one - other) <= most * (np.abs(one) if relative else 1.0)).all())


def common_folder(one: Path, other: Path) -> Path:
    """The deepest folder that holds both paths, or is one of them."""
    if one == other or one in other.parents:
        return one
    return next(parent for parent in one.parents if parent == other or parent in other.parents)
