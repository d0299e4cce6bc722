"""The ablation's phantoms: made, prepared and kept below the output folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from lnq.image.names import CT
from training.ablation.sizes import TEST_SEED, TRAIN_SEED, TUNE_SEED, AblationSize
from training.data.dataset_info import read_dataset_info
from training.data.preparation import Preparation, prepare_cases
from training.processes import side_by_side


@dataclass(frozen=True)
class PhantomSet:
    """Phantoms for one purpose, of seeds `first_seed` and on."""

    name: str
    split: str  # in the files' names: `train` is annotated in part, `val` and `test` wholly
    first_seed: int
    count: int


@dataclass(frozen=True)
class AblationData:
    """Folders of prepared cases."""

    train: Path
    tune: Path
    test: Path


def phantom_sets(size: AblationSize) -> tuple[PhantomSet, PhantomSet, PhantomSet]:
    """Which phantoms a size has."""
    return (
        PhantomSet("train", "train", TRAIN_SEED, size.train),
        PhantomSet("tune", "val", TUNE_SEED, size.tune),
        PhantomSet("test", "test", TEST_SEED, size.test),
    )


def prepared_folders(name: str, size: AblationSize, folder: Path) -> AblationData:
    """Where a size's prepared phantoms lie below `folder`, whether or not they are there."""
    z, y, x = size.config.spacing_mm
    train, tune, test = (folder / name / f"{z:g}x{y:g}x{x:g}" / phantoms.name for phantoms in phantom_sets(size))
    return AblationData(train, tune, test)


def make_data(name: str, size: AblationSize, folder: Path, processes: int, console: Console) -> None:
    """Make and prepare what is missing of a size's phantoms below `folder`.

    A set that is there, cropped as the size says, is taken as it is. Raises ValueError where preparing fails.
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
    """Write the phantoms whose CT is not there: it is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(1, phantoms.count + 1)
    missing = [n for n in numbers if not (folder / f"lnq2023-{phantoms.split}-{n:04d}{CT}.nrrd").is_file()]
    work = [(phantoms, pixels, folder, number) for number in missing]
    written = side_by_side(_write_phantom, work, processes)
    for _ in track(written, f"Phantoms to {phantoms.name}", len(work), console=console):
        pass


def _write_phantom(item: tuple[PhantomSet, int, Path, int]) -> None:
    from phantom.write import write_phantom  # brings SimpleITK, which training itself does without

    phantoms, pixels, folder, number = item
    write_phantom(folder, phantoms.split, number, phantoms.first_seed + number - 1, size=pixels)
