"""Find raw cases: the challenge's file pairs, nnU-Net's data sets, DICOM with DICOM SEG, or a table of files.

A table is a CSV file with the columns `image`, `label` (files or DICOM folders, relative to the table) and
`annotation`: "partial", "full", or "none" of a CT without a label, which can be reviewed. Optional are the columns
`case`, `patient`, `split` ("train", "validation", "test"), `fold` (from 0) and `unknown`: the value of a partial
label's unknown voxels, where 0 is background, not just not annotated.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from rich.console import Console

from lnq.image.names import CT, LABEL, stem
from training.command import plain_console
from training.data.sources.nnunet import find_nnunet_cases, is_nnunet
from training.data.sources.raw_case import Annotation, RawCase
from training.data.sources.states import UNKNOWN, node_of, states_of
from training.data.splits import Split

if TYPE_CHECKING:
    from lnq.image.volume import Volume

_SHOWN_VALUES = 5
_IMAGE_END, _LABEL_END = f"{CT}.nrrd", f"{LABEL}.nrrd"  # file names of the challenge's pairs


def find_cases(
    sources: Sequence[Path], annotation: Annotation = "auto", console: Console | None = None
) -> list[RawCase]:
    """All cases of the sources. Where two cases have one name, their folders' names are put before it.

    A source is a folder with the challenge's pairs, a data set of nnU-Net v2, a folder with DICOM below it, or a table.
    `annotation` other than
    "auto" wins over what the source says. Raises ValueError where a source holds no case, a table is wrong, or two
    cases would have the same name.
    """
    cases: list[RawCase] = []
    for source in sources:
        cases += _cases_of(source, annotation, console or plain_console(quiet=True))
    names = Counter(case.name for case in cases)
    cases = [
        dataclasses.replace(case, name=f"{case.image.parent.name}-{case.name}") if names[case.name] > 1 else case
        for case in cases
    ]
    if len({case.name for case in cases}) < len(cases):
        raise ValueError("Two cases of one name lie in folders of one name, or a folder was given twice: rename one")
    return cases


def _cases_of(source: Path, annotation: Annotation, console: Console) -> list[RawCase]:
    if source.suffix.lower() == ".csv":
        return _read_table(source, annotation)
    if not source.is_dir():
        raise ValueError(f"{source} is neither a folder nor a .csv file")
    if is_nnunet(source):
        return find_nnunet_cases(source, annotation)
    found = _challenge_pairs(source, annotation)
    if not found:
        from training.data.sources.read_dicom_seg import (
            find_dicom_cases,  # imports pydicom, which other sources do not need
        )

        found = find_dicom_cases(source, annotation, console)
    if not found:
        raise ValueError(f"No file named *{_IMAGE_END} in {source}, and no DICOM SEG object below it")
    return found


def _challenge_pairs(folder: Path, annotation: Annotation) -> list[RawCase]:
    """Pairs of `<case>-ct.nrrd` and `<case>-seg.nrrd`. Those named val or test are held out, by default as full.

    A file `<case>-info.json`, as `phantom` writes it, may say more: `full`, `unknown`, the value of unknown voxels, and
    `background`, the real CT that nodes were inserted into. The background is taken as the patient.
    """
    files = [path.name for end in (_IMAGE_END, _LABEL_END) for path in folder.glob(f"[!.]*{end}")]
    cases = []
    for name in sorted({name.removesuffix(_IMAGE_END).removesuffix(_LABEL_END) for name in files}):
        split: Split = "validation" if "-val" in name else "test" if "-test" in name else "train"
        facts, problem = _facts(folder / f"{name}-info.json")
        full = annotation == "full" or (annotation == "auto" and facts.get("full", split != "train"))
        image, label = folder / (name + _IMAGE_END), folder / (name + _LABEL_END)
        case = _file_pair(name, image, label, full, facts.get("background", name), split)
        cases.append(dataclasses.replace(case, problem=case.problem or problem, ignore=facts.get("unknown")))
    return cases


def _facts(path: Path) -> tuple[dict[str, Any], str]:
    """The entries of a JSON file (none where there is no file), and what is wrong with it, or ""."""
    if not path.is_file():
        return {}, ""
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        facts = None
    if not isinstance(facts, dict):
        return {}, f"{path.name} is damaged: it holds no JSON object"
    if not isinstance(facts.get("full", True), bool):
        return {}, f"{path.name} says neither true nor false for full, but {facts['full']!r}"
    if not isinstance(facts.get("background", ""), str):
        return {}, f"{path.name} names no background, but {facts['background']!r}"
    unknown = facts.get("unknown", UNKNOWN)
    if not isinstance(unknown, int) or isinstance(unknown, bool) or unknown < 1:
        return {}, f"{path.name} says that unknown voxels have the value {unknown!r}"
    return facts, ""


def _file_pair(name: str, image: Path, label: Path | None, full: bool, patient: str, split: Split) -> RawCase:
    missing = next((path for path in (image, label) if path is not None and not path.exists()), None)
    return RawCase(name, image, label, full, patient, split, problem=f"{missing.name} is missing" if missing else "")


def _read_table(table: Path, annotation: Annotation) -> list[RawCase]:
    """The cases of a table. Raises ValueError with the number of the line that is wrong."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        lacking = {"image", "label", "annotation"} - set(reader.fieldnames or ())
        if lacking:
            raise ValueError(f"{table} has no column {' and no column '.join(sorted(lacking))}")
        rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    cases = []
    for line, row in enumerate(rows, start=2):
        image, label = table.parent / row["image"], table.parent / row["label"] if row["label"] else None
        name = row.get("case") or stem(image)
        split = row.get("split") or "train"
        if row["annotation"] not in ("partial", "full", "none"):
            raise ValueError(
                f"{table}, line {line}: annotation must be partial, full or none, not {row['annotation']!r}"
            )
        if not row["image"] or (label is None) != (row["annotation"] == "none"):
            raise ValueError(f"{table}, line {line}: image or label is not given, or a label where annotation is none")
        if split not in get_args(Split):
            raise ValueError(f"{table}, line {line}: split must be one of {', '.join(get_args(Split))}, not {split!r}")
        if not re.fullmatch(r"[^./\\][^/\\]*", name):
            raise ValueError(f"{table}, line {line}: a case becomes a folder's name, which {name!r} cannot be")
        unknown = row.get("unknown") or ""
        if unknown and not re.fullmatch(r"[1-9]\d*", unknown):
            raise ValueError(f"{table}, line {line}: unknown must be a whole number above 0, not {unknown!r}")
        fold = row.get("fold") or ""
        if fold and not (fold.isdecimal() and split == "train"):
            raise ValueError(f"{table}, line {line}: a fold is a whole number from 0 on, of a case for training")
        full = label is not None and (row["annotation"] if annotation == "auto" else annotation) == "full"
        case = _file_pair(name, image, label, full, row.get("patient") or name, split)  # type: ignore[arg-type]
        ignore = UNKNOWN if label is not None and is_outlines(label) else int(unknown) if unknown else None
        cases.append(dataclasses.replace(case, ignore=ignore, fold=int(fold) if fold else None))
    return cases


def is_outlines(label: Path) -> bool:
    """Whether a label is a file of outlines in patient coordinates, which has three states."""
    return label.suffix == ".json"


def read_pair(raw: RawCase) -> tuple[Volume, Volume]:
    """Read a case's CT in HU and its label, each on its own grid. Of a CT that nobody annotated the label is empty.

    Raises ValueError (or ImageError, which is one) where one of them is damaged, missing or of the wrong kind.
    """
    from lnq.archive.open import open_series, read_ct  # imports SimpleITK
    from lnq.dicom.header import is_dicom_file
    from lnq.image.itk import read_volume

    if raw.problem:
        raise ValueError(raw.problem)
    if raw.slices:
        opened = open_series(raw.slices, raw.image.name)
        if opened.stack is None or not opened.stack.is_plain:  # its label lies on other planes than the grid's
            raise ValueError(f"{raw.image.name} cannot be trained on: {' '.join(opened.volume.warnings)}")
        image = opened.volume
    else:
        image = read_ct(raw.image)
    if raw.label is None:
        return image, image.with_array(np.zeros(image.shape, np.uint8))
    if is_outlines(raw.label):
        from training.data.sources.patient_outlines import read_outlines

        return image, read_outlines(raw.label, image)
    if is_dicom_file(raw.label):
        from training.data.sources.read_dicom_seg import read_segmentation

        return image, read_segmentation(raw.label, image)
    return image, read_volume(raw.label)


def read_states(case: RawCase) -> tuple[Volume, Volume]:
    """A case's CT in HU, and on its grid the label's three states, uint8. Raises what `read_pair` and `check_label` do.

    Of a CT that nobody annotated all is unknown.
    """
    ct, given = read_pair(case)
    if case.label is not None:
        check_label(given, case)
    return ct, ct.with_array(states_of(case, ct, given))


def check_label(given: Volume, case: RawCase) -> str:
    """What is unusual about a case's label, as a sentence, or "".

    Raises ValueError where there is none, where it is not a label, and where it marks no node. Only a label that tells
    background and unknown apart may mark none.
    """
    if case.label is None:
        raise ValueError("Nobody annotated it, so there is nothing to learn from")
    values, name = np.unique(node_of(given, case).array), case.label.name
    if not np.isfinite(values).all() or values[0] < 0 or (values != np.round(values)).any():
        raise ValueError(f"{name} is no label: its values go from {values[0]:g} to {values[-1]:g}")
    above = [f"{value:g}" for value in values if value > 0]
    if not above and not case.told:
        raise ValueError(f"{name} marks no voxel")
    if not above or above == ["1"]:
        return ""
    shown = ", ".join(above[:_SHOWN_VALUES]) + (", ..." if len(above) > _SHOWN_VALUES else "")
    several = f"{len(above)} instances, of values {shown}" if len(above) > 1 else f"value {shown}"
    return f"{name} has {several}: every value above 0 was taken for node"
