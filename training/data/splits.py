"""Which cases are for training, validation and test: a CSV file that people may edit, one row per case.

    case,patient,split,fold
    lnq2023-train-0001,lnq2023-train-0001,train,3
    lnq2023-val-0001,lnq2023-val-0001,validation,

`split` is train, validation, test or unused. Each training case belongs to a `fold`, for cross-validation. All cases of
a patient share both: a network must not be scored on patients that it was trained on.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from lnq.files import replace_atomically
from training.data.prepared import CaseInfo, case_folders

Split = Literal["train", "validation", "test", "unused"]

SPLITS_NAME = "splits.csv"
DEFAULT_FOLDS = 5
_COLUMNS = ("case", "patient", "split", "fold")
_HELD_OUT_FIRST: tuple[Split, ...] = ("test", "validation", "unused", "train")


@dataclass(frozen=True)
class SplitRow:
    """Where one case belongs. `fold` counts from 0; it is None unless the case is for training."""

    case: str
    patient: str
    split: Split
    fold: int | None = None


@dataclass(frozen=True)
class Selection:
    """Which of the prepared cases a run trains on."""

    splits: Path | None = None  # CSV file: case, patient, split, fold; none is the prepared folder's own splits.csv
    fold: int | None = None  # leave out this fold of the training cases, to validate on
    annotated: Literal["any", "partial", "full"] = "any"  # of these cases, those annotated in part, or wholly


ALL_FOR_TRAINING = Selection()

SelectionArguments = Annotated[Selection, tyro.conf.arg(name="")]
"""Type of a command's field that offers `--splits`, `--fold` and `--annotated`."""


def make_splits(
    cases: Iterable[tuple[str, str, Split]], earlier: Mapping[str, SplitRow], folds: int | None = None
) -> list[SplitRow]:
    """Make rows for cases given as (case, patient, part), sorted by name. Rows of `earlier` stay as they are.

    A patient with cases in several parts goes to the first of test, validation, unused and train that occurs. Patients
    join the smallest fold in the order of their names' hashes, so that the same cases give the same folds. `folds` is
    by default that of the earlier rows, or else 5. Raises ValueError where it is less than 2, or differs from them.
    """
    cases = sorted(cases)
    known = {row.fold for row in earlier.values() if row.fold is not None}
    count = folds or (max(known) + 1 if known else DEFAULT_FOLDS)
    if folds is not None and (folds < 2 or (known and folds != max(known) + 1)):
        made = f" (the file that is there has {max(known) + 1}: delete it to draw new ones)" if known else ""
        raise ValueError(f"Folds must be 2 or more, and the same as before, not {folds}{made}")
    kept = {row.patient: row for case, row in sorted(earlier.items()) if case in {name for name, _, _ in cases}}
    parts: dict[str, Split] = {}
    for _, patient, part in cases:
        parts[patient] = min(part, parts.get(patient, part), key=_HELD_OUT_FIRST.index)
    parts |= {patient: row.split for patient, row in kept.items() if patient in parts}
    fold_of = _assign_folds(cases, parts, kept, count)
    return [earlier.get(case) or SplitRow(case, p, parts[p], fold_of.get(p)) for case, p, _ in cases]


def _assign_folds(
    cases: Sequence[tuple[str, str, Split]], parts: Mapping[str, Split], kept: Mapping[str, SplitRow], count: int
) -> dict[str, int]:
    """The fold of each patient for training."""
    cases_of = Counter(patient for _, patient, _ in cases)
    fold_of = {patient: row.fold for patient, row in kept.items() if row.fold is not None}
    sizes = [0] * count
    for patient, fold in fold_of.items():
        sizes[fold] += cases_of[patient]
    for patient in sorted(parts, key=lambda p: hashlib.sha256(p.encode()).digest()):
        if parts[patient] == "train" and patient not in kept:
            fold_of[patient] = sizes.index(min(sizes))
            sizes[fold_of[patient]] += cases_of[patient]
    return fold_of


def write_splits(path: Path, rows: Iterable[SplitRow]) -> None:
    """Write a splits file atomically."""
    with replace_atomically(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows([row.case, row.patient, row.split, "" if row.fold is None else row.fold] for row in rows)


def read_splits(path: Path) -> dict[str, SplitRow]:
    """Rows of a splits file by case. Raises ValueError where its content is wrong, OSError where it cannot be read."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(f"{path} must have the columns {', '.join(_COLUMNS)}")
        rows = [_row(path, line, row) for line, row in enumerate(reader, start=2)]
    doubled = [case for case, count in Counter(row.case for row in rows).items() if count > 1]
    if doubled:
        raise ValueError(f"{path} names {doubled[0]} twice")
    places = defaultdict(set)
    for row in rows:
        places[row.patient].add((row.split, row.fold))
    torn = [patient for patient, where in places.items() if len(where) > 1]
    if torn:
        raise ValueError(f"{path} puts cases of one patient, {torn[0]}, into different splits or folds")
    return {row.case: row for row in rows}


def _row(path: Path, line: int, row: Mapping[str, str | None]) -> SplitRow:
    case, patient, split, fold = ((row[name] or "").strip() for name in _COLUMNS)
    if split not in get_args(Split):
        raise ValueError(f"{path}, line {line}: split must be one of {', '.join(get_args(Split))}, not {split!r}")
    if fold and (split != "train" or not fold.isdecimal()):
        raise ValueError(f"{path}, line {line}: a fold is a whole number from 0 on, of a case for training")
    return SplitRow(case, patient or case, split, int(fold) if fold else None)  # type: ignore[arg-type]


def cases_for(part: Split, rows: Iterable[SplitRow], fold: int | None = None) -> list[str]:
    """Names of the cases for a part. With a fold, training leaves that fold out, and validation is that fold.

    Raises ValueError where there is no such fold.
    """
    rows = list(rows)
    folds = sorted({row.fold for row in rows if row.fold is not None})
    if fold is not None and fold not in folds:
        raise ValueError(f"There is no fold {fold}: the folds are {', '.join(map(str, folds)) or 'not given'}")
    if fold is None or part in ("test", "unused"):
        return [row.case for row in rows if row.split == part]
    return [row.case for row in rows if row.split == "train" and (row.fold == fold) == (part == "validation")]


def training_folders(data: Path, selection: Selection = ALL_FOR_TRAINING) -> list[Path]:
    """Folders of the prepared cases to train on, sorted by name.

    Without a splits file, and where none is asked for, these are all cases. Raises ValueError where the file does not
    name a prepared case, or where no case is left to train on.
    """
    folders = _folders_by_splits(data, selection)
    if selection.annotated == "any":
        return folders
    chosen = [folder for folder in folders if CaseInfo.read(folder).full == (selection.annotated == "full")]
    if not chosen:
        how = "wholly" if selection.annotated == "full" else "in part"
        raise ValueError(f"Of the cases in {data} to train on none is annotated {how}")
    return chosen


def _folders_by_splits(data: Path, selection: Selection) -> list[Path]:
    folders = case_folders(data)
    path = selection.splits or data / SPLITS_NAME
    if selection.splits is None and selection.fold is None and not path.is_file():
        return folders
    if not path.is_file():
        raise ValueError(f"There is no splits file {path}")
    rows = read_splits(path)
    unknown = [folder.name for folder in folders if folder.name not in rows]
    if unknown:
        raise ValueError(f"{path} does not name {len(unknown)} of the prepared cases, such as {unknown[0]}: add them")
    chosen = set(cases_for("train", rows.values(), selection.fold))
    if not any(folder.name in chosen for folder in folders):
        raise ValueError(f"{path} leaves no prepared case to train on")
    return [folder for folder in folders if folder.name in chosen]
