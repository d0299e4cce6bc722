"""Choose the axial CT of each study among the series that were gathered, by rules.

A series is left out, with the reason, unless it is an axial CT of enough slices. One of a study's remaining series is
segmented. The user can name series instead.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lnq.dicom.header import count_of, raw_text
from lnq.dicom.series import Series
from lnq.dicom.stacks import LEAST_SLICES
from lnq.errors import Message, Words
from lnq.image.headers.layout import printable

HU_TYPES = frozenset({"", "HU", "US"})  # of RescaleType; the last means unspecified
_IS_MAP = re.compile(
    r"\b(MIP|MINIP|MIN IP|VRT|SSD|PROJECTION IMAGE|IODINE\w*|VNC|VIRTUAL NON\W?CONTRAST|Z[ _-]?EFF\w*|"
    r"EFFECTIVE (Z|ATOMIC)|ELECTRON DENSITY|RHO|PERFUSION|PBV|BLOOD VOLUME)\b"
)
_CHEST = re.compile(r"CHEST|THORA|THX|LUNG|MEDIAST|PULMO|BRUST")
_ELSEWHERE = re.compile(r"\b(ABD\w*|PELVI\w*|HEAD|BRAIN|SKULL|NECK|SPINE|KNEE|HIP|LEG|ARM|FOOT|HAND|SINUS)\b")
_ATTENUATION = re.compile(r"\b(CTAC|AC|AC_CT|CT_AC|WB|LD|PET\w*|LOW ?DOSE|ATTENUATION|ATTCORR)\b")
_SHARP_WORD = re.compile(r"\b(LUNG|BONE|BONEPLUS|EDGE|ULTRA|SHARP|HRCT)\b")
_SOFT_WORD = re.compile(r"\b(SOFT|STANDARD|STND|STD|SMOOTH|MEDIAST\w*)\b")
_PHILIPS = {"A": 0, "B": 0, "C": 0, "L": 2, "D": 2, "E": 2, "YA": 2, "YB": 2, "YC": 2, "YD": 2}
AXIAL_COSINE = 0.9  # least cosine of the slices' normal with the patient's long axis: up to 26 degrees of tilt
_CHEST_MM = 250.0  # a scan of this length holds a chest
_SHARP, _SHARP_TOSHIBA = 50, 30  # least numbers of Siemens' and Toshiba's sharp kernels
_USUAL_MM = 3.0  # slice distance of the training data
_OF_ELSEWHERE = 2  # rank of a scan of another part of the body than the chest
_SAME_LENGTH = 0.9  # a scan of at least this fraction of the longest one counts as equally long


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
    modality, image_type = series.text("Modality"), series.text("ImageType").upper()
    if series.kind not in ("ct", "scout"):
        if modality and modality != "CT":
            return Message("it holds {modality} images, not a CT", modality=printable(modality, 20))
        return Message("it is no CT image but of the kind {kind}", kind=Words(series.kind or "unknown"))
    if series.kind == "scout":
        return Message("its only CT images are scout views")
    if "SECONDARY" in image_type:
        return Message("it is a secondary capture or a reformatted series (ImageType SECONDARY)")
    unit = series.text("RescaleType").strip()
    if unit.upper() not in HU_TYPES:
        return Message("its values are {unit}, not HU", unit=printable(unit, 20))
    if _IS_MAP.search(image_type) or _IS_MAP.search(series.text("SeriesDescription").upper()):
        return Message("it is a projection or a map, as its ImageType or description says")
    normal = series.normal()
    if normal is not None and abs(normal[2]) < AXIAL_COSINE:
        return Message("its slices are not axial")
    if len(series.places) < LEAST_SLICES and count_of(series.header, "NumberOfFrames") == 1:
        return Message("it has {slices} slices, fewer than {least}", slices=len(series.places), least=LEAST_SLICES)
    return None


def rank(candidates: Sequence[Series]) -> list[Series]:
    """A study's suitable series, of which there must be one, from the best to segment on.

    Only scans within a tenth of the longest one count, or of a chest's 250 mm where that is less. Among these the
    criteria of `_CRITERIA` are asked in their order. A scan of another part of the body counts only where all are.
    """
    longest = min(max(s.length_mm() for s in candidates), _CHEST_MM)
    long = [s for s in candidates if s.length_mm() >= _SAME_LENGTH * longest]
    ranked = sorted(long, key=lambda s: tuple(ask(s) for _, ask in _CRITERIA))
    return [s for s in ranked if _region(s) < _OF_ELSEWHERE] or ranked


def why(best: Series, other: Series) -> str:
    """The first criterion by which `best` goes before `other`, in words; blank where only the UIDs differ."""
    longest = min(max(best.length_mm(), other.length_mm()), _CHEST_MM)
    if other.length_mm() < _SAME_LENGTH * longest:
        return "the longer scan"
    return next((words for words, ask in _CRITERIA if ask(best) < ask(other)), "")


def _region(series: Series) -> int:
    told = " ".join(series.text(tag) for tag in ("BodyPartExamined", "ProtocolName", "SeriesDescription")).upper()
    return 0 if _CHEST.search(told) else _OF_ELSEWHERE if _ELSEWHERE.search(told) else 1


def _low_dose(series: Series) -> bool:
    return bool(_ATTENUATION.search(series.text("SeriesDescription").upper()))


def _kernel(series: Series) -> int:
    """0 for a soft kernel, 1 for an unknown one, 2 for a sharp one: of lung or bone."""
    kernel = raw_text(series.header, "ConvolutionKernel").upper().split("\\")[0].strip()
    siemens = re.match(r"[BDHIQTU][A-Z]{0,2}(\d\d)", kernel)
    if siemens:
        return 2 if int(siemens[1]) >= _SHARP else 0
    toshiba = re.match(r"FC(\d\d)", kernel)
    if toshiba:
        return 2 if int(toshiba[1]) >= _SHARP_TOSHIBA else 0
    if kernel in _PHILIPS:
        return _PHILIPS[kernel]
    words = kernel or series.text("SeriesDescription").upper()
    return 2 if _SHARP_WORD.search(words) else 0 if _SOFT_WORD.search(words) else 1


def _thickness(series: Series) -> float:
    distance = series.slice_distance_mm()
    factor = abs(np.log(distance / _USUAL_MM)) if distance > 0 else np.inf
    return round(float(factor), 2)


def _number(series: Series) -> int:
    number = series.text("SeriesNumber")
    return int(number) if number.lstrip("-").isdigit() else 0


_CRITERIA: tuple[tuple[str, Callable[[Series], Any]], ...] = (
    ("a scan of the chest", _region),
    ("no attenuation scan of a PET", _low_dose),
    ("the softer kernel", _kernel),
    ("with contrast medium", lambda s: not s.text("ContrastBolusAgent")),
    ("slices nearer to 3 mm apart", _thickness),
    ("more slices", lambda s: -len(s.places)),
    ("the lower number", _number),
    ("", lambda s: (s.uid, s.part)),
)


@dataclass(frozen=True)
class Selected:
    """Which series are segmented, and why."""

    chosen: list[Series]  # in the given order
    others: list[tuple[Series, Message]]  # each with the reason why not
    ranked: list[list[Series]]  # the series of each study that can be segmented, from the best on

    def because(self, series: Series) -> Message | None:
        """Why a series was chosen among those of its study; None where there was no choice."""
        of_study = [s for s, _ in self.others if (s.study, s.apart) == (series.study, series.apart)]
        beaten = [other for other in of_study if unsuitable(other) is None]
        criteria = dict.fromkeys(why(series, other) for other in beaten)
        words = Words(", ".join(filter(None, criteria)) or "the first")
        if beaten:
            return Message("chosen before {count} other CT series of its study: {why}", count=len(beaten), why=words)
        if of_study:
            return Message("the only one of {count} series of its study to segment", count=len(of_study) + 1)
        return None


def select(gathered: Iterable[Series], choice: Choice) -> Selected:
    """Split series into those to segment and the others.

    All series of a study without a suitable one are among the others.
    """
    gathered = list(gathered)
    reasons: dict[int, Message] = {}
    ranked: list[list[Series]] = []
    if choice.by_name:
        reasons = _not_named(gathered, choice)
    else:
        reasons = {i: reason for i, series in enumerate(gathered) if (reason := unsuitable(series))}
        studies: dict[tuple[tuple[str, ...], str], list[int]] = {}
        for index, series in enumerate(gathered):
            if index not in reasons:
                studies.setdefault((series.study, series.apart), []).append(index)
        for indices in studies.values() if not choice.every else ():
            ranked.append(rank([gathered[i] for i in indices]))
            best = ranked[-1][0]
            for index in indices:
                if gathered[index] is not best:
                    reasons[index] = _beaten(best, gathered[index])
    chosen = [series for i, series in enumerate(gathered) if i not in reasons]
    return Selected(chosen, [(gathered[i], reason) for i, reason in reasons.items()], ranked)


def _not_named(gathered: Sequence[Series], choice: Choice) -> dict[int, Message]:
    """The series that the user did not name, by index. What only shares a CT's UID is not meant by it."""
    reasons: dict[int, Message] = {}
    suited = {series.uid for series in gathered if unsuitable(series) is None}
    for index, series in enumerate(gathered):
        described = choice.description and choice.description.search(series.text("SeriesDescription"))
        if not (series.uid in choice.uids or described):
            reasons[index] = Message("it is not among the series asked for")
        elif series.uid in suited and (reason := unsuitable(series)):
            reasons[index] = reason
    return reasons


def _beaten(best: Series, other: Series) -> Message:
    """Why `other` is left out, where `best` of the same study was chosen."""
    criterion = why(best, other)
    if best.uid == other.uid:
        return Message("another stack of the same series was chosen, {why}", why=Words(criterion or "the first"))
    uid = printable(best.uid, 64)
    if not criterion:
        return Message("series {uid} of the same study was chosen", uid=uid)
    return Message("series {uid} of the same study was chosen: {why}", uid=uid, why=Words(criterion))
