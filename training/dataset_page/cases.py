"""The cases that the page shows, read from a prepared folder's small files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.data.certain import CertainFacts, read_certain
from training.data.measures.record import CaseMeasures, read_measures
from training.data.prepared import CaseInfo, case_folders
from training.data.splits import SPLITS_NAME, SplitRow, read_splits

PARTIAL, FULL, THREE_STATES = "partial", "full", "three states"  # how a case is annotated


@dataclass(frozen=True)
class ShownCase:
    """One prepared case, as far as the page needs it."""

    folder: Path
    info: CaseInfo
    measures: CaseMeasures | None  # None where it was not measured
    certain: CertainFacts | None
    split: str  # "" where no file says

    @property
    def name(self) -> str:
        """The case's name."""
        return self.info.case

    @property
    def patient(self) -> str:
        """The patient's name; the case's own where the source gives none."""
        return self.info.patient or self.info.case

    @property
    def annotation(self) -> str:
        """How it is annotated: one of PARTIAL, FULL and THREE_STATES."""
        return FULL if self.info.full else THREE_STATES if self.info.told else PARTIAL


def read_cases(data: Path) -> list[ShownCase]:
    """The prepared cases of a folder, sorted by name. Raises ValueError where there is none or one is damaged."""
    path = data / SPLITS_NAME
    rows: Mapping[str, SplitRow] = read_splits(path) if path.is_file() else {}
    cases = []
    for folder in case_folders(data):
        info = CaseInfo.read(folder)
        split = rows[info.case].split if info.case in rows else ""
        cases.append(ShownCase(folder, info, read_measures(folder), read_certain(folder), split))
    return cases
