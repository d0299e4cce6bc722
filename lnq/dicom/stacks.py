"""Tell the stacks of slices apart that share one SeriesInstanceUID, and join slices that have one each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lnq.dicom.header import OF_STACK, raw_text

if TYPE_CHECKING:
    from lnq.dicom.series import Series

LEAST_SLICES = 10  # of a CT to segment
TIMES = 3  # tags at the end of `OF_STACK` that hold times
_DESCRIBED_BY = ("Modality", "SeriesDescription", "SeriesNumber", "ConvolutionKernel", "AcquisitionNumber", "Rows")


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """What is kept of one object while series are gathered."""

    place: str  # its path, or its name in the archive
    folder: Path  # the folder of its file, or the archive
    archive: str  # the path of the archive that holds it, or blank
    position_mm: tuple[float, ...]  # ImagePositionPatient; empty where it has none
    marks: tuple[str, ...]  # its values of `OF_STACK`
    number: int  # InstanceNumber

    @property
    def protocol(self) -> tuple[str, ...]:
        """Its marks, without the times that may differ from slice to slice."""
        return self.marks[:-TIMES]


def split_stacks(objects: Sequence[Instance]) -> tuple[list[list[Instance]], bool]:
    """Split the objects of one series into stacks in which no two lie at the same position.

    The first tag of `OF_STACK` that does it decides, then the folder, then the order of the instance numbers. Where
    nothing does it, or no two objects lie at the same position, there is one stack. Also returns whether the folder
    decided: then nothing in the headers tells the stacks apart, and they may be of different patients.
    """
    whole = [list(objects)]
    if not _overlaps(objects):
        return whole, False
    keys: list[Callable[[Instance], Hashable]] = [lambda one, i=i: one.marks[i] for i in range(len(OF_STACK))]  # type: ignore[misc]
    keys += [lambda one: one.marks, lambda one: one.folder]
    for number, key in enumerate(keys, 1):
        parts: dict[Hashable, list[Instance]] = {}
        for one in objects:
            parts.setdefault(key(one), []).append(one)
        if _are_stacks(list(parts.values())):
            return list(parts.values()), number == len(keys)
    turns = _by_turns(objects)
    return (turns if _are_stacks(turns) else whole), False


def _overlaps(objects: Sequence[Instance]) -> bool:
    placed = [one.position_mm for one in objects if one.position_mm]
    return len(set(placed)) < len(placed)


def _are_stacks(parts: Sequence[Sequence[Instance]]) -> bool:
    return len(parts) > 1 and all(len(part) >= LEAST_SLICES and not _overlaps(part) for part in parts)


def _by_turns(objects: Sequence[Instance]) -> list[list[Instance]]:
    """Parts in the order of the instance numbers: a new one begins where a position comes again."""
    parts: list[list[Instance]] = []
    taken: set[tuple[float, ...]] = set()
    for one in sorted(objects, key=lambda one: one.number):
        if not parts or one.position_mm in taken:
            parts.append([])
            taken = set()
        parts[-1].append(one)
        taken.add(one.position_mm)
    return parts


def merge_single(found: Sequence[Series]) -> list[Series]:
    """Join CT series of a single slice each that differ in nothing but their UIDs: an anonymiser gave each its own."""

    def described(one: Series) -> tuple[Hashable, ...] | None:
        if one.kind != "ct" or len(one.places) > 1 or not one.positions_mm or raw_text(one.header, "NumberOfFrames"):
            return None
        return (one.archive, *one.study, *(raw_text(one.header, tag) for tag in _DESCRIBED_BY))

    alike = Counter(key for one in found if (key := described(one)))
    joined: dict[tuple[Hashable, ...], Series] = {}
    left: list[Series] = []
    for one in found:
        key = described(one)
        if key is None or alike[key] < LEAST_SLICES:
            left.append(one)
        elif key in joined:
            joined[key].join(one)
        else:
            joined[key] = one
            left.append(one)
    return left
