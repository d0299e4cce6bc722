"""The ablation's phantoms: made, prepared and kept below the output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from lnq.image.names import CT
from lnq.processes import side_by_side
from training.ablation.sizes import TEST_SEED, TRAIN_SEED, TUNE_SEED, AblationSize
from training.data.dataset_info import read_dataset_info
from training.data.preparation import Preparation, prepare_cases


@dataclass(frozen=True)
class PhantomSet:
    """Phantoms for one purpose, with consecutive seeds from `first_seed`."""

    name: str
    split: str  # part of the file names: `train` is partially annotated, `val` and `test` fully
    first_seed: int
    count: int


@dataclass(frozen=True)
class AblationData:
    """Folders of prepared cases: to train on, to choose thresholds on (`tune`), and to score."""

    train: Path
    tune: Path
    test: Path


def phantom_sets(size: AblationSize) -> tuple[PhantomSet, PhantomSet, PhantomSet]:
    """The phantoms of a size: to train on, to choose thresholds on, and to score."""
    return (
        PhantomSet("train", "train", TRAIN_SEED, size.train),
        PhantomSet("tune", "val", TUNE_SEED, size.tune),
        PhantomSet("test", "test", TEST_SEED, size.test),
    )


def prepared_folders(name: str, size: AblationSize, folder: Path) -> AblationData:
    """Folders of a size's prepared phantoms below `folder`. They need not exist."""
    z, y, x = size.config.spacing_mm
    train, tune, test = (folder / name / f"{z:g}x{y:g}x{x:g}" / phantoms.name for phantoms in phantom_sets(size))
    return AblationData(train, tune, test)


def make_data(name: str, size: AblationSize, folder: Path, processes: int, console: Console) -> None:
    """Make and prepare a size's missing phantoms below `folder`.

    A set that exists and was cropped as the size says is kept. Raises ValueError where preparing fails.
    """
    prepared = prepared_folders(name, size, folder)
    for phantoms, target in zip(phantom_sets(size), (prepared.train, prepared.tune, prepared.test), strict=True):
        if (target / "dataset.json").is_file() and read_dataset_info(target).crop == size.config.crop:
            continue
        raw = folder / name / "raw" / phantoms.name
        _make_phantoms(phantoms, size.pixels, raw, processes, console)
        wanted = Preparation((raw,), target, size.config.spacing_mm, size.config.crop, processes=processes)
        prepare_cases(wanted, console)


def _make_phantoms(phantoms: PhantomSet, pixels: int, folder: Path, processes: int, console: Console) -> None:
    """Write the phantoms whose CT is missing. The CT is written last, so it marks a complete phantom."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(1, phantoms.count + 1)
    missing = [n for n in numbers if not (folder / f"lnq2023-{phantoms.split}-{n:04d}{CT}.nrrd").is_file()]
    work = [(phantoms, pixels, folder, number) for number in missing]
    written = side_by_side(_write_phantom, work, processes)
    for _ in track(written, f"Phantoms to {phantoms.name}", len(work), console=console):
        pass


def _write_phantom(item: tuple[PhantomSet, int, Path, int]) -> None:
    from phantom.write import write_phantom  # imports SimpleITK, which training itself does not need

    phantoms, pixels, folder, number = item
    write_phantom(folder, phantoms.split, number, phantoms.first_seed + number - 1, size=pixels)
