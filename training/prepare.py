"""Turn raw cases into prepared ones: cropped, resampled, compressed, with the statistics that training needs.

    python -m training.prepare DIR... -o PREPARED --preset compact

A DIR holds pairs `<case>-ct.nrrd` and `<case>-seg.nrrd`, as the LNQ2023 challenge and the phantoms name them.
Prepared cases are kept, so the same command run again does only what is missing.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from lnq.spec import CropSpec, Triple
from training.cases import AIR_HU, CaseInfo, DatasetInfo, write_case, write_dataset_info
from training.command import run_command
from training.config import COMPACT, ConfigArguments, parse
from training.machine import git_commit

if TYPE_CHECKING:
    from lnq.volume import Volume

Annotation = Literal["auto", "full", "partial"]

REGION_POINTS = 4096  # enough for sampling; the region itself is large
MAX_HU = 4095
CONNECTIVITY = np.ones((3, 3, 3))
STRAY_VOXELS = 2  # of the prepared grid: less is a stray piece of an annotation, not a node


@dataclass(frozen=True)
class Prepare:
    """Prepare folders of `<case>-ct.nrrd` and `<case>-seg.nrrd` for training."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # folders with raw cases
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets one folder per case and dataset.json
    annotation: Annotation = "auto"  # auto: cases named val or test are full, others partial
    processes: int = 1  # cases prepared side by side; each takes up to 2 GB
    preset: str = "compact"  # its spacing
    config: ConfigArguments = COMPACT


@dataclass(frozen=True)
class RawCase:
    """A pair of files, and whether all of its nodes are annotated."""

    name: str
    image: Path
    label: Path
    full: bool

    def provenance(self, spacing_mm: Triple) -> dict[str, Any]:
        """What tells whether a prepared case is still the one of these files."""
        sizes = {"image_bytes": self.image.stat().st_size, "label_bytes": self.label.stat().st_size}
        return {"image": self.image.name, "label": self.label.name, "full": self.full, **sizes} | {
            "spacing_mm": list(spacing_mm)
        }


def find_cases(sources: Sequence[Path], annotation: Annotation = "auto") -> list[RawCase]:
    """All pairs in the folders, by name; a name that occurs in two folders gets the folder's before it.

    Raises ValueError where there is none, or where two would have the same name.
    """
    pairs: list[tuple[Path, Path]] = []
    for source in sources:
        for image in sorted(source.glob("*-ct.nrrd")):
            label = image.with_name(image.name.replace("-ct.nrrd", "-seg.nrrd"))
            pairs.append((image, label))
    if not pairs:
        raise ValueError(f"No file named *-ct.nrrd in {', '.join(map(str, sources))}")
    names = [image.name.removesuffix("-ct.nrrd") for image, _ in pairs]
    cases = []
    for name, (image, label) in zip(names, pairs, strict=True):
        full = annotation == "full" or (annotation == "auto" and ("-val" in name or "-test" in name))
        unique = f"{image.parent.name}-{name}" if names.count(name) > 1 else name
        cases.append(RawCase(unique, image, label, full))
    if len({case.name for case in cases}) < len(cases):
        raise ValueError("Two cases of one name lie in folders of one name, or a folder was given twice: rename one")
    return cases


def prepare_case(raw: RawCase, spacing_mm: Triple, folder: Path) -> None:
    """Crop, resample and write one case. Raises ValueError (or ImageError, which is one) with the reason."""
    from lnq.pipeline import prepare  # brings SimpleITK, which training itself does without
    from lnq.resample import resample_label_to
    from lnq.volume import read_volume

    if not raw.label.is_file():
        raise ValueError(f"{raw.label.name} is missing")
    image, label = read_volume(raw.image), read_volume(raw.label)
    prepared = prepare(image, spacing_mm, margin_mm=CropSpec().margin_mm)
    own = label.with_array((label.array > 0).astype(np.uint8))
    if not own.array.any():
        raise ValueError(f"{raw.label.name} marks no voxel")
    inside = _inside(own, prepared.cropped)
    if inside == 0.0:
        raise ValueError(f"{raw.label.name} lies outside the lungs' box of {raw.image.name}: a wrong pair?")
    node = resample_label_to(own, prepared.image).array
    components, count = ndimage.label(own.array, CONNECTIVITY)
    volumes = np.bincount(components.ravel())[1:] * own.voxel_volume_mm3 if count else np.zeros(0)
    hu = np.clip(np.round(prepared.image.array), AIR_HU, MAX_HU).astype(np.int16)
    info = CaseInfo(
        case=raw.name,
        full=raw.full,
        shape=hu.shape,
        spacing_mm=spacing_mm,
        mean_hu=float(hu.mean(dtype=np.float64)),
        std_hu=float(hu.std(dtype=np.float64)),
        node_centres=tuple(_component_centres(node)),
        node_volumes_mm3=tuple(float(v) for v in volumes),
        label_lost=round(1.0 - inside, 6),
        hu_counts=_hu_counts(hu[node > 0]),
        provenance=raw.provenance(spacing_mm),
    )
    points = np.argwhere(prepared.region)
    chosen = np.random.default_rng(0).permutation(len(points))[:REGION_POINTS]
    write_case(folder, info, hu, node, prepared.region, points[chosen])


def _inside(label: Volume, crop: Volume) -> float:
    """Part of the label's voxels whose centres lie in the crop."""
    index = np.argwhere(label.array)
    position = label.affine[:3, :3] @ index.T + label.affine[:3, 3:]
    there = np.linalg.inv(crop.affine) @ np.vstack([position, np.ones(len(index))])
    limits = np.array(crop.shape)[:, None] - 0.5
    return float(((there[:3] >= -0.5) & (there[:3] <= limits)).all(axis=0).mean())


def _component_centres(node: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Of each 26-connected component the voxel nearest to its centre of mass."""
    components, _ = ndimage.label(node, CONNECTIVITY)
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        voxels = np.argwhere(components[box] == number)
        nearest = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
        z, y, x = (int(v) + s.start for v, s in zip(nearest, box, strict=True))
        yield z, y, x


def _hu_counts(hu: np.ndarray) -> dict[str, int]:
    """How often each HU occurs, as JSON can hold it."""
    levels, counts = np.unique(hu, return_counts=True)
    return {str(level): int(count) for level, count in zip(levels, counts, strict=True)}


def dataset_info(infos: Sequence[CaseInfo], failed: Sequence[str], sources: Sequence[Path]) -> DatasetInfo:
    """Statistics over all cases: HU under the annotation (at the prepared spacing) and the smallest annotated node.

    Components below two voxels of the prepared grid do not count as nodes. Raises ValueError where no case is left.
    """
    if not any(info.hu_counts for info in infos):
        raise ValueError("No case could be prepared: " + "; ".join(failed))
    counts: dict[int, int] = {}
    for info in infos:
        for level, count in info.hu_counts.items():
            counts[int(level)] = counts.get(int(level), 0) + count
    levels = np.array(sorted(counts))
    weights = np.array([counts[level] for level in levels], dtype=np.float64)
    mean = float((levels * weights).sum() / weights.sum())
    stray_mm3 = STRAY_VOXELS * float(np.prod(infos[0].spacing_mm))
    volumes = [volume for info in infos for volume in info.node_volumes_mm3 if volume >= stray_mm3]
    return DatasetInfo(
        spacing_mm=infos[0].spacing_mm,
        clip_hu=(_percentile(levels, weights, 0.5), _percentile(levels, weights, 99.5)),
        mean_hu=mean,
        std_hu=max(float(np.sqrt(((levels - mean) ** 2 * weights).sum() / weights.sum())), 1.0),
        smallest_node_mm3=min(volumes, default=stray_mm3),
        cases=len(infos),
        partial_cases=sum(not info.full for info in infos),
        annotated_nodes=len(volumes),
        failed=tuple(failed),
        provenance={"sources": [source.resolve().name for source in sources], "commit": git_commit()},
    )


def _percentile(levels: np.ndarray, weights: np.ndarray, percent: float) -> float:
    below = np.cumsum(weights) / weights.sum()
    return float(levels[min(int(np.searchsorted(below, percent / 100.0)), len(levels) - 1)])


def prepare_all(command: Prepare, console: Console) -> bool:
    """Prepare what is missing, name what is bad, and write dataset.json."""
    cases = find_cases(command.sources, command.annotation)
    _refuse_strangers(command.output, cases)
    command.output.mkdir(parents=True, exist_ok=True)
    spacing_mm = command.config.spacing_mm
    missing = [case for case in cases if not _is_done(case, spacing_mm, command.output / case.name)]
    work = [(case, spacing_mm, command.output / case.name) for case in missing]
    failed: dict[str, str] = {}
    for name, reason in track(_outcomes(work, command.processes), "Preparing", len(work), console=console):
        if reason:
            failed[name] = reason
            shutil.rmtree(command.output / name, ignore_errors=True)  # training takes every folder that is there
            console.print(f"{name} is left out: {reason}", highlight=False)
    done = [command.output / case.name for case in cases if case.name not in failed]
    infos = [CaseInfo.read(folder) for folder in done]
    reasons = [f"{name}: {reason}" for name, reason in sorted(failed.items())]
    write_dataset_info(command.output, dataset_info(infos, reasons, command.sources))
    lost = [info for info in infos if info.label_lost > 0]
    for info in lost:
        console.print(f"{info.case}: {info.label_lost:.1%} of the annotation lies outside the crop", highlight=False)
    console.print(
        f"{len(infos)} cases are prepared ({len(missing) - len(failed)} of them now), {len(failed)} are left out",
        highlight=False,
    )
    return True


def _refuse_strangers(output: Path, cases: Sequence[RawCase]) -> None:
    """Raise ValueError for prepared cases of other sources: training would take them, the statistics would not."""
    strangers = {f.parent.name for f in output.glob("[!.]*/case.json")} - {case.name for case in cases}
    if strangers:
        raise ValueError(
            f"{output} holds {len(strangers)} prepared cases of other sources, such as {min(strangers)}: "
            "name those sources too, delete the cases, or give another output folder"
        )


def _is_done(case: RawCase, spacing_mm: Triple, folder: Path) -> bool:
    try:
        return json.loads((folder / "case.json").read_text())["provenance"] == case.provenance(spacing_mm)
    except (OSError, ValueError, KeyError):
        return False


def _outcomes(work: Sequence[tuple[RawCase, Triple, Path]], processes: int) -> Iterator[tuple[str, str]]:
    """Name of each case, as it is done, with why it failed or an empty string."""
    if processes <= 1:
        yield from map(_try_case, work)
        return
    # Processes are started afresh: SimpleITK's threads do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job in as_completed([pool.submit(_try_case, item) for item in work]):
            yield job.result()


def _try_case(item: tuple[RawCase, Triple, Path]) -> tuple[str, str]:
    case = item[0]
    try:
        prepare_case(*item)
    except Exception as error:  # whatever is wrong with one case must not end the others
        return case.name, str(error) or type(error).__name__
    return case.name, ""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = parse(Prepare, arguments)
    return run_command(lambda: prepare_all(command, Console(stderr=True, soft_wrap=True)))


if __name__ == "__main__":
    sys.exit(main())
