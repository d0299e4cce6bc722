"""Small prepared cases, written in the real format: three warm blobs in noise, of which one is annotated."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from lnq.inference.spec import CropSpec
from lnq.plain import to_plain
from training.data.dataset_info import DatasetInfo, read_dataset_info, write_dataset_info
from training.data.prepared import CaseInfo, case_folders, write_case

SPACING_MM = (4.0, 3.0, 3.0)


def fake_case(data: Path, name: str, seed: int, full: bool = False, shape: tuple[int, int, int] = (12, 24, 20)) -> None:
    """One case: noise around -100 HU with three nodes of 60 HU, of which one is annotated (all, where full)."""
    rng = np.random.default_rng(seed)
    image = rng.normal(-100, 20, shape)
    label = np.zeros(shape, np.uint8)
    centres = [(3, 6, 5), (6, 12, 10), (9, 18, 14)]
    for number, (z, y, x) in enumerate(centres):
        box = np.s_[z - 1 : z + 2, y - 2 : y + 3, x - 2 : x + 3]
        image[box] = rng.normal(60, 20, image[box].shape)
        if full or number == 1:
            label[box] = 1
    annotated = centres if full else centres[1:2]
    region = np.zeros(shape, np.uint8)
    region[2:-2, 4:-4, 3:-3] = 1
    info = CaseInfo(
        case=name,
        full=full,
        shape=shape,
        spacing_mm=SPACING_MM,
        mean_hu=float(image.mean()),
        std_hu=float(image.std()),
        node_centres=tuple(annotated),
        node_volumes_mm3=(75 * 36.0,) * len(annotated),
        label_lost=0.0,
    )
    write_case(data / name, info, np.round(image), label, region, np.argwhere(region))


def fake_dataset(data: Path, partial: int = 2, full: int = 1) -> Path:
    """A prepared folder of a few cases."""
    data.mkdir(parents=True, exist_ok=True)
    for i in range(partial + full):
        fake_case(data, f"case-{i:02d}", seed=i, full=i >= partial)
    info = DatasetInfo(
        spacing_mm=SPACING_MM,
        clip_hu=(-140.0, 120.0),
        mean_hu=60.0,
        std_hu=40.0,
        smallest_node_mm3=150.0,
        cases=partial + full,
        partial_cases=partial,
        annotated_nodes=partial + 3 * full,
    )
    write_dataset_info(data, info)
    return data


def recrop(data: Path, crop: CropSpec, cases: bool = True) -> Path:
    """Have a prepared folder say that it was cropped so, with its cases or alone; returns the folder."""
    write_dataset_info(data, dataclasses.replace(read_dataset_info(data), crop=crop))
    for folder in case_folders(data) if cases else ():
        info = dataclasses.replace(CaseInfo.read(folder), crop=crop)
        (folder / "case.json").write_text(json.dumps(to_plain(info)))
    return data
