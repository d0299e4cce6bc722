"""Turn raw cases into prepared ones: cropped, resampled, compressed, with the statistics that training needs.

    python -m training.prepare SOURCE... -o PREPARED --preset compact

A SOURCE is a folder of pairs `<case>-ct.nrrd` and `<case>-seg.nrrd`, as the LNQ2023 challenge and the phantoms name
them; a folder with CT series and DICOM SEG objects anywhere below it; or a CSV table (see `training.data.sources`).
Prepared cases are kept, so the same command run again does only what is missing.
"""

from __future__ import annotations

import glob
import json
import multiprocessing
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from lnq.inference.spec import CropSpec, Triple
from training.command import run_command
from training.config import COMPACT, ConfigArguments, parse
from training.data.prepared import (
    AIR_HU,
    STRAY_VOXELS,
    CaseInfo,
    count_hu,
    dataset_info,
    write_case,
    write_dataset_info,
)
from training.data.sources import Annotation, RawCase, check_label, find_cases, read_pair
from training.data.splits import SPLITS_NAME, SplitRow, make_splits, read_splits, write_splits

if TYPE_CHECKING:
    from lnq.image.volume import Volume
    from lnq.pipeline import Prepared

REGION_POINTS = 4096  # enough for sampling; the region itself is large
MAX_HU = 4095
AIR_OR_LUNG_HU = -200.0  # no node has a median below: fat has -100
CONNECTIVITY = np.ones((3, 3, 3))

Work = tuple[RawCase, Triple, Path]  # what is prepared, at which spacing, into which folder


@dataclass(frozen=True)
class Prepare:
    """Prepare raw cases for training: the challenge's pairs, DICOM with DICOM SEG, or a CSV table of files."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # folders with raw cases, or .csv tables
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets a folder per case, dataset.json and splits.csv
    annotation: Annotation = "auto"  # auto: as the source says (names with val or test are full, others partial)
    folds: int | None = None  # of the cases for training, patients kept together; 5 unless given
    processes: int = 1  # cases prepared side by side; each takes up to 2 GB
    preset: str = "compact"  # its spacing
    config: ConfigArguments = COMPACT


def prepare_case(raw: RawCase, spacing_mm: Triple, folder: Path) -> None:
    """Crop, resample and write one case. Raises ValueError (or ImageError, which is one) with the reason."""
    from lnq.image.resample import resample_label_to
    from lnq.pipeline import prepare  # brings SimpleITK, which training itself does without

    image, label = read_pair(raw)
    notes = [check_label(label, raw.label.name)]
    prepared = prepare(image, spacing_mm, CropSpec())
    if prepared.crop.lungs_found < 2:
        notes += prepared.crop.warnings
    inside = _inside(label, prepared.cropped)
    if inside == 0.0:
        raise ValueError(f"{raw.label.name} lies outside the lungs' box of {raw.image.name}: a wrong pair?")
    node = resample_label_to(label, prepared.image).array
    hu = np.clip(np.round(prepared.image.array), AIR_HU, MAX_HU).astype(np.int16)
    if node.any() and np.median(hu[node > 0]) < AIR_OR_LUNG_HU:
        raise ValueError(f"{raw.label.name} marks air or lung in {raw.image.name}: a wrong pair?")
    info = CaseInfo(
        case=raw.name,
        full=raw.full,
        shape=hu.shape,
        spacing_mm=spacing_mm,
        mean_hu=float(hu.mean(dtype=np.float64)),
        std_hu=float(hu.std(dtype=np.float64)),
        node_centres=tuple(component_centres(node)),
        node_volumes_mm3=tuple(_node_volumes_mm3(label)),
        label_lost=round(1.0 - inside, 6),
        hu_counts=count_hu(hu[node > 0]),
        patient=raw.patient,
        notes=tuple(note for note in notes if note),
        provenance=raw.provenance(spacing_mm) | {"crop": _crop_facts(prepared)},
    )
    points = np.argwhere(prepared.region)
    chosen = np.random.default_rng(0).permutation(len(points))[:REGION_POINTS]
    write_case(folder, info, hu, node, prepared.region, points[chosen])


def _crop_facts(prepared: Prepared) -> dict[str, Any]:
    """How the CT was cropped: the box counts voxels of the CT in LPS axes, z, y, x."""
    crop = prepared.crop
    return {
        "margin_mm": CropSpec().margin_mm,
        "box": [[side.start, side.stop] for side in crop.box],
        "lungs": crop.lungs_found,
        "warnings": list(crop.warnings),
    }


def _inside(label: Volume, crop: Volume) -> float:
    """Part of the label's voxels whose centres lie in the crop."""
    index = np.argwhere(label.array > 0)
    position = label.affine[:3, :3] @ index.T + label.affine[:3, 3:]
    there = np.linalg.inv(crop.affine) @ np.vstack([position, np.ones(len(index))])
    limits = np.array(crop.shape)[:, None] - 0.5
    return float(((there[:3] >= -0.5) & (there[:3] <= limits)).all(axis=0).mean())


def _node_volumes_mm3(label: Volume) -> Iterator[float]:
    """Of each node on the label's own grid: the 26-connected components of each value."""
    values = label.array if label.array.dtype.kind in "iu" else label.array.astype(np.int32)
    for value, box in enumerate(ndimage.find_objects(values), start=1):
        if box is None:  # no voxel has this value
            continue
        components, _ = ndimage.label(values[box] == value, CONNECTIVITY)
        for voxels in np.bincount(components.ravel())[1:]:
            yield float(voxels * label.voxel_volume_mm3)


def component_centres(node: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Of each 26-connected component the voxel nearest to its centre of mass; stray pieces only if there is no other.

    `node`: uint8 [Z, Y, X] on the prepared grid.
    """
    components, _ = ndimage.label(node, CONNECTIVITY)
    sizes = np.bincount(components.ravel())[1:]
    least = min(STRAY_VOXELS, sizes.max(initial=0))
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        if sizes[number - 1] < least:
            continue
        voxels = np.argwhere(components[box] == number)
        nearest = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
        z, y, x = (int(v) + s.start for v, s in zip(nearest, box, strict=True))
        yield z, y, x


def prepare_all(command: Prepare, console: Console) -> bool:
    """Prepare what is missing, name what is bad, and write splits.csv and dataset.json."""
    cases = find_cases(command.sources, command.annotation, console)
    _refuse_strangers(command.output, cases)
    rows = _splits(command, cases)
    command.output.mkdir(parents=True, exist_ok=True)
    work = [(case, command.config.spacing_mm, command.output / case.name) for case in cases]
    missing = _missing(work)
    failed: dict[str, str] = {}
    for name, reason in track(_outcomes(missing, command.processes), "Preparing", len(missing), console=console):
        if reason:
            failed[name] = reason
            shutil.rmtree(command.output / name, ignore_errors=True)  # training takes every folder that is there
            console.print(f"{name} is left out: {reason}", highlight=False)
    infos = [CaseInfo.read(folder) for case, _, folder in work if case.name not in failed]
    write_splits(command.output / SPLITS_NAME, rows.values())
    _write_statistics(command, infos, rows, failed)
    _report(console, infos, rows, len(missing) - len(failed), len(failed))
    return True


def _splits(command: Prepare, cases: Sequence[RawCase]) -> dict[str, SplitRow]:
    """Where each case belongs, by name; an earlier splits.csv is kept to."""
    path = command.output / SPLITS_NAME
    earlier = read_splits(path) if path.is_file() else {}
    rows = make_splits([(case.name, case.patient, case.part) for case in cases], earlier, command.folds)
    return {row.case: row for row in rows}


def _write_statistics(
    command: Prepare, infos: Sequence[CaseInfo], rows: dict[str, SplitRow], failed: dict[str, str]
) -> None:
    from training.engine.machine import git_commit  # brings torch, which the processes do without

    train = [info for info in infos if rows[info.case].split == "train"]
    reasons = [f"{name}: {reason}" for name, reason in sorted(failed.items())]
    provenance = {"sources": [source.resolve().name for source in command.sources], "commit": git_commit()}
    write_dataset_info(command.output, dataset_info(train or infos, reasons, provenance))


def _report(console: Console, infos: Sequence[CaseInfo], rows: dict[str, SplitRow], now: int, failed: int) -> None:
    for info in infos:
        notes = list(info.notes)
        if info.label_lost > 0:
            notes.append(f"{info.label_lost:.1%} of the annotation lies outside the crop")
        if not info.node_centres:
            notes.append("the annotation is too small for the prepared grid")
        for note in notes:
            console.print(f"{info.case}: {note}", highlight=False)
    count = Counter(rows[info.case].split for info in infos)
    console.print(", ".join(f"{number} for {part}" for part, number in count.items()), highlight=False)
    console.print(f"{len(infos)} cases are prepared ({now} of them now), {failed} are left out", highlight=False)


def _refuse_strangers(output: Path, cases: Sequence[RawCase]) -> None:
    """Raise ValueError for prepared cases of other sources: training would take them, the statistics would not."""
    strangers = {f.parent.name for f in output.glob("[!.]*/case.json")} - {case.name for case in cases}
    if strangers:
        raise ValueError(
            f"{output} holds {len(strangers)} prepared cases of other sources, such as {min(strangers)}: "
            "name those sources too, delete the cases, or give another output folder"
        )


def _missing(work: Sequence[Work]) -> list[Work]:
    """What is still to be prepared, less what a run that was killed left of it."""
    missing = [item for item in work if not _is_done(*item)]
    for _, _, folder in missing:
        for left in folder.parent.glob(f".{glob.escape(folder.name)}.[0-9]*"):
            shutil.rmtree(left, ignore_errors=True)
    return missing


def _is_done(case: RawCase, spacing_mm: Triple, folder: Path) -> bool:
    """Whether the folder holds this very case, complete."""
    try:
        stored = json.loads((folder / "case.json").read_text())["provenance"]
        return not case.problem and case.provenance(spacing_mm) == {k: v for k, v in stored.items() if k != "crop"}
    except (OSError, ValueError, KeyError):
        return False


def _outcomes(work: Sequence[Work], processes: int) -> Iterator[tuple[str, str]]:
    """Name of each case, as it is done, with why it failed or an empty string."""
    if processes <= 1:
        yield from map(_try_case, work)
        return
    yielded = set()
    try:
        for name, reason in _side_by_side(work, processes):
            yielded.add(name)
            yield name, reason
    except BrokenProcessPool:  # a case ended its process: those that are left get a pool each, so that it is named
        for item in work:
            if item[0].name in yielded:
                continue
            try:
                yield from _side_by_side([item], 1)
            except BrokenProcessPool:
                yield item[0].name, "its process was ended, there may be too little memory"


def _side_by_side(work: Sequence[Work], processes: int) -> Iterator[tuple[str, str]]:
    # Processes are started afresh: SimpleITK's threads do not survive a fork.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        for job in as_completed([pool.submit(_try_case, item) for item in work]):
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _try_case(item: Work) -> tuple[str, str]:
    case = item[0]
    try:
        prepare_case(*item)
    except MemoryError:
        return case.name, "there is not enough memory for it"
    except Exception as error:  # whatever is wrong with one case must not end the others
        return case.name, str(error) or type(error).__name__
    return case.name, ""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = parse(Prepare, arguments)
    return run_command(lambda: prepare_all(command, Console(stderr=True, soft_wrap=True)))


if __name__ == "__main__":
    sys.exit(main())
