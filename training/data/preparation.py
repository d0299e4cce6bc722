"""Make a prepared data set from raw cases, with its splits and statistics. Cases already prepared are kept."""

from __future__ import annotations

import glob
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from lnq.inference.spec import DEFAULT_CROP, CropSpec, Triple
from lnq.processes import in_fresh_processes, side_by_side
from training.commit import git_commit
from training.data.certain import add_certain, read_certain
from training.data.dataset_info import dataset_info, write_dataset_info
from training.data.measures.measure import add_measures, is_measured
from training.data.prepare_case import is_prepared, prepare_case
from training.data.prepared import CaseInfo
from training.data.sources.find import find_cases
from training.data.sources.raw_case import Annotation, RawCase
from training.data.splits import SPLITS_NAME, SplitRow, make_splits, read_splits, write_splits


@dataclass(frozen=True)
class Preparation:
    """What is to be prepared, and how."""

    sources: tuple[Path, ...]  # folders with raw cases, or .csv tables
    output: Path  # gets a folder per case, dataset.json and splits.csv
    spacing_mm: Triple
    crop: CropSpec = DEFAULT_CROP
    annotation: Annotation = "auto"
    folds: int | None = None  # see `training.data.splits.make_splits`
    processes: int = 1


@dataclass(frozen=True)
class Work:
    """One case to be prepared."""

    case: RawCase
    spacing_mm: Triple
    crop: CropSpec
    folder: Path


def prepare_cases(wanted: Preparation, console: Console) -> bool:
    """Prepare the missing cases, report those that fail, and write splits.csv and dataset.json.

    Raises ValueError where no case could be prepared, or where the output folder holds cases of other sources.
    """
    cases = find_cases(wanted.sources, wanted.annotation, console)
    _refuse_strangers(wanted.output, cases)
    rows = _splits(wanted, cases)
    wanted.output.mkdir(parents=True, exist_ok=True)
    work = [Work(case, wanted.spacing_mm, wanted.crop, wanted.output / case.name) for case in cases]
    missing = _missing(work)
    failed: dict[str, str] = {}
    for name, reason in track(_outcomes(missing, wanted.processes), "Preparing", len(missing), console=console):
        if reason:
            failed[name] = reason
            shutil.rmtree(wanted.output / name, ignore_errors=True)  # training would take a folder left here
            console.print(f"{name} is left out: {reason}")
    infos = [CaseInfo.read(item.folder) for item in work if item.case.name not in failed]
    write_splits(wanted.output / SPLITS_NAME, rows.values())
    clip_hu = _write_statistics(wanted, infos, rows, failed)
    folders = [(wanted.output / info.case, clip_hu) for info in infos]
    found = side_by_side(_find_certain, folders, wanted.processes)
    for name, reason in track(found, "Background", len(folders), console=console):
        if reason:
            console.print(f"{name} has no certain background: {reason}")
    _report_certain(console, [folder for folder, _ in folders])
    _measure_again(work, failed, wanted.processes, console)
    _report(console, infos, rows, len(missing) - len(failed), len(failed))
    return True


def _splits(wanted: Preparation, cases: Sequence[RawCase]) -> dict[str, SplitRow]:
    """The row of each case, by its name. Rows of an earlier splits.csv stay, then folds that a source has."""
    path = wanted.output / SPLITS_NAME
    earlier = read_splits(path) if path.is_file() else {}
    for case in cases:
        if case.fold is not None:
            earlier.setdefault(case.name, SplitRow(case.name, case.patient, case.split, case.fold))
    rows = make_splits([(case.name, case.patient, case.split) for case in cases], earlier, wanted.folds)
    return {row.case: row for row in rows}


def _write_statistics(
    wanted: Preparation, infos: Sequence[CaseInfo], rows: dict[str, SplitRow], failed: dict[str, str]
) -> tuple[float, float]:
    """Write dataset.json; returns its `clip_hu`."""
    train = [info for info in infos if rows[info.case].split == "train"]
    reasons = [f"{name}: {reason}" for name, reason in sorted(failed.items())]
    provenance = {"sources": [source.resolve().name for source in wanted.sources], "commit": git_commit()}
    info = dataset_info(train or infos, reasons, provenance)
    write_dataset_info(wanted.output, info)
    return info.clip_hu


def _find_certain(item: tuple[Path, tuple[float, float]]) -> tuple[str, str]:
    """A case's name, with the reason where its certain background cannot be found: only some losses need it."""
    folder, clip_hu = item
    try:
        add_certain(folder, clip_hu)
    except MemoryError:
        return folder.name, "there is not enough memory for it"
    except (OSError, ValueError) as error:
        return folder.name, str(error)
    return folder.name, ""


def _measure_again(work: Sequence[Work], failed: Collection[str], processes: int, console: Console) -> None:
    """Measure the cases that have no measurements of today's version, such as those prepared by an earlier one."""
    stale = [item for item in work if item.case.name not in failed and not is_measured(item.folder)]
    for name, reason in track(side_by_side(_measure, stale, processes), "Measuring", len(stale), console=console):
        if reason:
            console.print(f"{name} is not measured: {reason}")


def _measure(item: Work) -> tuple[str, str]:
    """A case's name, with the reason where it cannot be measured: only the data set's page needs it."""
    try:
        add_measures(item.folder, item.case)
    except MemoryError:
        return item.case.name, "there is not enough memory for it"
    except Exception as error:  # training does without
        return item.case.name, str(error) or type(error).__name__
    return item.case.name, ""


def _report_certain(console: Console, folders: Sequence[Path]) -> None:
    """Say how much of the partial cases is certain background: the rest is unknown."""
    facts = [read_certain(folder) for folder in folders if not CaseInfo.read(folder).full]
    found = [one for one in facts if one is not None]
    if found:
        share, of_region = np.mean([(one.share, one.share_of_region) for one in found], axis=0)
        console.print(
            f"Certain background: {share:.0%} of the voxels of partial cases, {of_region:.0%} of those in the region",
        )


def _report(console: Console, infos: Sequence[CaseInfo], rows: dict[str, SplitRow], now: int, failed: int) -> None:
    for info in infos:
        notes = list(info.notes)
        if info.label_lost > 0:
            notes.append(f"{info.label_lost:.1%} of the annotation lies outside the crop")
        if not info.node_centres:
            notes.append("the annotation is too small for the prepared grid")
        for note in notes:
            console.print(f"{info.case}: {note}")
    count = Counter(rows[info.case].split for info in infos)
    console.print(", ".join(f"{number} for {part}" for part, number in count.items()))
    console.print(f"{len(infos)} cases are prepared ({now} of them now), {failed} are left out")


def _refuse_strangers(output: Path, cases: Sequence[RawCase]) -> None:
    """Raise ValueError where there are prepared cases of other sources: training would use them without statistics."""
    strangers = {f.parent.name for f in output.glob("[!.]*/case.json")} - {case.name for case in cases}
    if strangers:
        raise ValueError(
            f"{output} holds {len(strangers)} prepared cases of other sources, such as {min(strangers)}: "
            "name those sources too, delete the cases, or give another output folder"
        )


def _missing(work: Sequence[Work]) -> list[Work]:
    """The cases still to be prepared. Unfinished folders of them, from a killed run, are removed."""
    missing = [item for item in work if not is_prepared(item.case, item.spacing_mm, item.crop, item.folder)]
    for item in missing:
        for left in item.folder.parent.glob(f".{glob.escape(item.folder.name)}.[0-9]*"):
            shutil.rmtree(left, ignore_errors=True)
    return missing


def _outcomes(work: Sequence[Work], processes: int) -> Iterator[tuple[str, str]]:
    """Yield each case's name when it is done, with the reason where it failed, or else an empty string."""
    yielded = set()
    try:
        for name, reason in side_by_side(_try_case, work, processes):
            yielded.add(name)
            yield name, reason
    except BrokenProcessPool:  # a case killed its process: each remaining case gets its own pool, which tells which one
        for item in work:
            if item.case.name in yielded:
                continue
            try:
                yield from in_fresh_processes(_try_case, [item], 1)
            except BrokenProcessPool:
                yield item.case.name, "its process was ended, there may be too little memory"


def _try_case(item: Work) -> tuple[str, str]:
    try:
        prepare_case(item.case, item.spacing_mm, item.crop, item.folder)
    except MemoryError:
        return item.case.name, "there is not enough memory for it"
    except Exception as error:  # an error in one case must not stop the others
        return item.case.name, str(error) or type(error).__name__
    return item.case.name, ""
