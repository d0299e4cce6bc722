"""The ablation's phantoms: made, prepared and kept below the output folder."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from lnq.inference.spec import Triple
from training.ablation.sizes import TEST_SEED, TRAIN_SEED, TUNE_SEED, Size


@dataclass(frozen=True)
class Part:
    """Phantoms for one purpose, of seeds `first_seed` and on."""

    name: str
    split: str  # in the files' names: `train` is annotated in part, `val` and `test` wholly
    first_seed: int
    count: int


@dataclass(frozen=True)
class Prepared:
    """Folders of prepared cases."""

    train: Path
    tune: Path
    test: Path


def parts(size: Size) -> tuple[Part, Part, Part]:
    """Which phantoms a size has."""
    return (
        Part("train", "train", TRAIN_SEED, size.train),
        Part("tune", "val", TUNE_SEED, size.tune),
        Part("test", "test", TEST_SEED, size.test),
    )


def prepared_folders(name: str, size: Size, folder: Path) -> Prepared:
    """Where a size's prepared phantoms lie below `folder`, whether or not they are there."""
    z, y, x = size.config.spacing_mm
    return Prepared(**{part.name: folder / name / f"{z:g}x{y:g}x{x:g}" / part.name for part in parts(size)})


def make_data(name: str, size: Size, folder: Path, processes: int, console: Console) -> None:
    """Make and prepare what is missing of a size's phantoms below `folder`; a part that is there is taken as it is.

    Raises RuntimeError where preparing fails.
    """
    prepared = dataclasses.asdict(prepared_folders(name, size, folder))
    for part in parts(size):
        if not (prepared[part.name] / "dataset.json").is_file():
            raw = folder / name / "raw" / part.name
            _make_phantoms(part, size.pixels, raw, processes, console)
            _prepare(raw, prepared[part.name], size.config.spacing_mm, processes)


def _make_phantoms(part: Part, pixels: int, folder: Path, processes: int, console: Console) -> None:
    """Write the phantoms whose CT is not there: it is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(1, part.count + 1)
    missing = [n for n in numbers if not (folder / f"lnq2023-{part.split}-{n:04d}-ct.nrrd").is_file()]
    work = [(part, pixels, folder, number) for number in missing]
    for _ in track(_written(work, processes), f"Phantoms to {part.name}", len(work), console=console):
        pass


def _written(work: list[tuple[Part, int, Path, int]], processes: int) -> Iterator[None]:
    if processes <= 1:
        yield from map(_write_phantom, work)
        return
    # Processes are started afresh: SimpleITK's threads do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job in as_completed([pool.submit(_write_phantom, item) for item in work]):
            yield job.result()


def _write_phantom(item: tuple[Part, int, Path, int]) -> None:
    from phantom.__main__ import parse, write_one  # brings SimpleITK, which training itself does without

    part, pixels, folder, number = item
    options = ["--first-seed", str(part.first_seed), "--split", part.split, "--size", str(pixels)]
    write_one(parse([str(folder), *options]), number - 1)


def _prepare(raw: Path, prepared: Path, spacing_mm: Triple, processes: int) -> None:
    from training.prepare import main

    spacing = [str(s) for s in spacing_mm]
    status = main([str(raw), "-o", str(prepared), "--spacing-mm", *spacing, "--processes", str(processes)])
    if status != 0:
        raise RuntimeError(f"The phantoms in {raw} could not be prepared")
