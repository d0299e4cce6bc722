"""Write raw cases as a data set of nnU-Net v2, so that the same data trains nnU-Net.

    python -m training.convert SOURCE... -o nnUNet_raw/Dataset501_Nodes --prepared PREPARED

Sources are those of `training.prepare`. Voxels that may be node or not become nnU-Net's `ignore`. In a case that is
annotated in part these are all but the annotated nodes and the certain background that PREPARED holds. Folds come from
PREPARED too. Without it a label that tells unknown voxels itself stays as it is. Cases that are there are kept, unless
their files or their certain background changed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from lnq.files import write_text
from lnq.plain import to_plain
from training.command import plain_console, run_over_cases
from training.data.certain import CERTAIN, read_certain, refuse_missing
from training.data.prepared import CaseInfo, PreparedCase
from training.data.sources.find import check_label, find_cases, read_pair
from training.data.sources.nnunet import DESCRIPTION, FOLDS, IMAGES, LABELS
from training.data.sources.raw_case import Annotation as HowAnnotated
from training.data.sources.raw_case import RawCase
from training.data.sources.states import BACKGROUND, NODE, UNKNOWN, states_of
from training.data.splits import SPLITS_NAME, SplitRow, make_splits, read_splits

if TYPE_CHECKING:
    from lnq.image.volume import Volume

ENDING = ".nii.gz"
MADE_FROM = "made_from.json"  # which nnU-Net does not look at
_FOLDER = re.compile(r"Dataset\d{3}_\w+")


@dataclass(frozen=True)
class Convert:
    """Write raw cases as a data set of nnU-Net v2: images, labels with `ignore`, dataset.json and splits_final.json."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # as of training.prepare
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets the data set: Dataset501_Nodes, as nnU-Net names them
    prepared: Path | None = None  # folder that training.prepare wrote of these sources: certain background and folds
    annotation: HowAnnotated = "auto"  # as of training.prepare


def convert(command: Convert, console: Console) -> bool:
    """Write the data set; returns whether every case could be written.

    Raises ValueError where the name is none of nnU-Net's, and where certain background is needed and missing.
    """
    if not _FOLDER.fullmatch(command.output.name):
        raise ValueError(f"nnU-Net needs a folder's name such as Dataset501_Nodes, not {command.output.name}")
    cases = find_cases(command.sources, command.annotation, console)
    open_ones = [case.name for case in cases if not (case.full or case.told)]
    if open_ones and command.prepared is None:
        raise ValueError(
            f"{len(open_ones)} cases, such as {open_ones[0]}, are annotated in part: give --prepared with their "
            "certain background, without which nnU-Net would have none to learn from"
        )
    for part in (IMAGES, LABELS):
        (command.output / part).mkdir(parents=True, exist_ok=True)
    _refuse_strangers(command.output, cases)
    done = _read_done(command.output)
    written, failed = [], 0
    for case in track(cases, "Converting", console=console):
        try:
            _write_case(case, command, done)
            written.append(case)
        except (ValueError, OSError, MemoryError) as error:
            failed += 1
            for path in _paths(case.name, command.output):  # of an earlier run: it would train on them
                path.unlink(missing_ok=True)
            console.print(f"{case.name} is left out: {error}")
    if not written:
        raise ValueError("No case could be converted")
    _describe(command.output, written)
    write_text(command.output / FOLDS, json.dumps(folds_of(written, _rows(command.prepared)), indent=1) + "\n")
    console.print(f"{len(written)} cases are in {command.output}, {failed} are left out")
    return not failed


def _paths(name: str, output: Path) -> tuple[Path, Path]:
    """The files of a case's image and label."""
    return output / IMAGES / f"{name}_0000{ENDING}", output / LABELS / f"{name}{ENDING}"


def _refuse_strangers(output: Path, cases: Sequence[RawCase]) -> None:
    """Raise ValueError where there are cases of other sources: nnU-Net would train on them too."""
    strangers = {path.name.removesuffix(ENDING) for path in (output / LABELS).iterdir()} - {c.name for c in cases}
    if strangers:
        raise ValueError(
            f"{output} holds {len(strangers)} cases of other sources, such as {min(strangers)}: give another folder"
        )


def _read_done(output: Path) -> dict[str, Any]:
    """What each case that is there was made from."""
    try:
        return dict(json.loads((output / MADE_FROM).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _write_case(case: RawCase, command: Convert, done: dict[str, Any]) -> None:
    """Write a case's files, unless they are there and made from the same. Notes that in `done`."""
    from lnq.image.itk import write_volume

    image_path, label_path = _paths(case.name, command.output)
    if case.problem:
        raise ValueError(case.problem)
    certain = None
    if command.prepared is not None and not case.full:
        certain = to_plain(read_certain(command.prepared / case.name))
    made_from = json.loads(json.dumps(case.files() | {"certain": certain}))
    if done.get(case.name) == made_from and image_path.is_file() and label_path.is_file():
        return
    image, given = read_pair(case)
    check_label(given, case)
    label = label_of(case, image, given, command.prepared)
    write_volume(image, image_path)
    write_volume(image.with_array(label), label_path)
    done[case.name] = made_from
    write_text(command.output / MADE_FROM, json.dumps(done, indent=1) + "\n")


def label_of(case: RawCase, image: Volume, given: Volume, prepared: Path | None) -> np.ndarray:
    """nnU-Net's label of a case on its CT's grid, uint8 [Z, Y, X] of three states, of which UNKNOWN is `ignore`."""
    states = states_of(case, image, given)
    if not case.full and prepared is not None:
        states[(states == UNKNOWN) & ~_unknown(prepared / case.name, image)] = BACKGROUND
    return states


def _unknown(folder: Path, image: Volume) -> np.ndarray:
    """The voxels of a CT that a prepared case leaves unknown. Outside its crop nothing is."""
    from lnq.image.resample import resample_label_to
    from lnq.pipeline import prepare

    if not folder.is_dir():
        raise ValueError(f"{folder} is missing: prepare the case first")
    refuse_missing(folder)
    info = CaseInfo.read(folder)
    grid = prepare(image, info.spacing_mm, info.crop).image
    case = PreparedCase(folder)
    unknown = (case.whole(CERTAIN) == 0) & (case.whole("label") == 0)
    if unknown.shape != grid.shape:
        raise ValueError(f"{folder} was prepared from another CT")
    found: np.ndarray = resample_label_to(grid.with_array(unknown.astype(np.uint8)), image).array > 0
    return found


def _describe(output: Path, cases: Sequence[RawCase]) -> None:
    labels = {"background": 0, "lymph node": NODE}
    if any(not case.full for case in cases):
        labels["ignore"] = UNKNOWN
    content: dict[str, Any] = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": len(cases),
        "file_ending": ENDING,
    }
    write_text(output / DESCRIPTION, json.dumps(content, indent=1) + "\n")


def _rows(prepared: Path | None) -> Mapping[str, SplitRow]:
    path = prepared / SPLITS_NAME if prepared is not None else None
    return read_splits(path) if path is not None and path.is_file() else {}


def folds_of(cases: Sequence[RawCase], earlier: Mapping[str, SplitRow]) -> list[dict[str, list[str]]]:
    """nnU-Net's folds: the names of the cases that train and validate in each.

    Cases for training have the folds of `earlier` or of their source, or new ones. Held-out cases are in none.
    """
    own = {c.name: SplitRow(c.name, c.patient, c.split, c.fold) for c in cases if c.fold is not None}
    rows = make_splits([(case.name, case.patient, case.split) for case in cases], {**own, **earlier})
    train = {row.case: row.fold for row in rows if row.split == "train"}
    numbers = sorted({fold for fold in train.values() if fold is not None})
    return [
        {
            "train": sorted(case for case, fold in train.items() if fold != number),
            "val": sorted(case for case, fold in train.items() if fold == number),
        }
        for number in numbers
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status, which is 1 where a case was left out."""
    command = tyro.cli(Convert, args=arguments, prog="python -m training.convert")
    return run_over_cases(lambda: convert(command, plain_console()))


if __name__ == "__main__":
    sys.exit(main())
