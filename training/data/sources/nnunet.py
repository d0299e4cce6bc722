"""Data sets in the format of nnU-Net v2, whose labels may tell background and unknown apart (`ignore`).

DATASET/dataset.json                          labels, channels, the files' ending
DATASET/imagesTr/<case>_0000<ending>          CTs, in HU
DATASET/labelsTr/<case><ending>               0 background, other values node, `ignore` unknown
DATASET/splits_final.json                     folds; nnU-Net keeps it with its preprocessed data
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.sources.raw_case import Annotation, RawCase

DESCRIPTION, FOLDS = "dataset.json", "splits_final.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
_PREPROCESSED = "nnUNet_preprocessed"  # nnU-Net's own environment variable


@dataclass(frozen=True)
class NnunetDescription:
    """What `dataset.json` says, as far as it is needed here."""

    ending: str  # of all files' names
    ignore: int | None  # the value of unknown voxels


def is_nnunet(folder: Path) -> bool:
    """Whether a folder is a data set of nnU-Net v2."""
    return (folder / DESCRIPTION).is_file() and (folder / LABELS).is_dir()


def find_nnunet_cases(folder: Path, annotation: Annotation) -> list[RawCase]:
    """The training cases of a data set. Without `ignore` in the labels all nodes are annotated.

    Raises ValueError where the data set is none of CTs with plain labels.
    """
    said = read_description(folder / DESCRIPTION)
    full = said.ignore is None if annotation == "auto" else annotation == "full"
    folds = _read_folds(folder)
    cases = []
    for label in sorted((folder / LABELS).glob(f"[!.]*{said.ending}")):
        name = label.name.removesuffix(said.ending)
        image = folder / IMAGES / f"{name}_0000{said.ending}"
        problem = "" if image.is_file() else f"{image.name} is missing"
        cases.append(
            RawCase(name, image, label, full, name, "train", problem=problem, ignore=said.ignore, fold=folds.get(name))
        )
    if not cases:
        raise ValueError(f"{folder / LABELS} holds no file named *{said.ending}")
    return cases


def read_description(path: Path) -> NnunetDescription:
    """Read `dataset.json`. Raises ValueError where it describes no CTs with plain labels."""
    try:
        content = json.loads(path.read_text())
        ending, channels = str(content["file_ending"]), dict(content["channel_names"])
        labels: Mapping[str, Any] = dict(content["labels"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no description of a data set of nnU-Net v2: {error}") from None
    if len(channels) != 1:
        raise ValueError(f"{path} names {len(channels)} channels: a CT has one")
    regions = [name for name, value in labels.items() if isinstance(value, list)]
    if regions:
        raise ValueError(f"{path} has regions, such as {regions[0]!r}, of several values each: give plain labels")
    values = {name: value for name, value in labels.items() if isinstance(value, int)}
    if values.keys() != labels.keys() or values.get("background") != 0 or len(values.keys() - {"ignore"}) < 2:
        raise ValueError(f"{path} must have the label background of value 0, and another one")
    ignore = values.get("ignore")
    if ignore is not None and ignore != max(values.values()):
        raise ValueError(f"{path} has ignore of value {ignore}, which must be the highest one")
    return NnunetDescription(ending, ignore)


def _read_folds(folder: Path) -> dict[str, int]:
    """The fold in which each case validates; none where there is no file. Raises ValueError where it is damaged."""
    places = [folder]
    if os.environ.get(_PREPROCESSED):
        places.append(Path(os.environ[_PREPROCESSED]) / folder.name)
    path = next((place / FOLDS for place in places if (place / FOLDS).is_file()), None)
    if path is None:
        return {}
    try:
        folds = json.loads(path.read_text())
        named = [(str(case), number) for number, fold in enumerate(folds) for case in fold["val"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no list of folds: {error}") from None
    if len({case for case, _ in named}) < len(named):
        raise ValueError(f"{path} has a case validate in two folds")
    return dict(named)
