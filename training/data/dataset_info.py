"""Describe a prepared data set as a whole: statistics under the annotation, and how its CTs were cropped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lnq.files import write_text
from lnq.inference.spec import DEFAULT_CROP, CropSpec, Normalisation, Triple
from lnq.plain import from_plain, to_plain
from training.data.prepared import STRAY_VOXELS, CaseInfo


@dataclass(frozen=True)
class DatasetInfo:
    """The content of `dataset.json`: statistics of the training cases, or of all cases where none is for training.

    Normalisation and post-processing need them (METHOD sections 2 and 7).
    """

    spacing_mm: Triple
    clip_hu: tuple[float, float]  # 0.5 and 99.5 percentiles of the HU under the annotation
    mean_hu: float
    std_hu: float
    smallest_node_mm3: float
    cases: int
    partial_cases: int
    annotated_nodes: int
    failed: tuple[str, ...] = ()
    crop: CropSpec = DEFAULT_CROP  # how every case was cropped; files without this entry used the defaults
    provenance: dict[str, Any] = field(default_factory=dict)


def dataset_info(infos: Sequence[CaseInfo], failed: Sequence[str], provenance: dict[str, Any]) -> DatasetInfo:
    """Compute statistics over the cases: HU under the annotation (at the prepared spacing), smallest annotated node.

    Components below two voxels of the prepared grid do not count as nodes. Raises ValueError where there is no case,
    and where cases were cropped differently.
    """
    counts: dict[int, int] = {}
    for info in infos:
        for level, count in info.hu_counts.items():
            counts[int(level)] = counts.get(int(level), 0) + count
    if not counts:
        raise ValueError("No case could be prepared: " + "; ".join(failed))
    for info in infos:
        refuse_other_crop(f"Case {info.case}", info.crop, f"case {infos[0].case}", infos[0].crop)
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
        crop=infos[0].crop,
        provenance=provenance,
    )


def _percentile(levels: np.ndarray, weights: np.ndarray, percent: float) -> float:
    below = np.cumsum(weights) / weights.sum()
    return float(levels[min(int(np.searchsorted(below, percent / 100.0)), len(levels) - 1)])


def write_dataset_info(data: Path, info: DatasetInfo) -> None:
    """Write `dataset.json` atomically."""
    write_text(data / "dataset.json", json.dumps(to_plain(info), indent=1) + "\n")


def read_dataset_info(data: Path) -> DatasetInfo:
    """Read `dataset.json`. Raises ValueError where the folder was not prepared to the end."""
    path = Path(data) / "dataset.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: run python -m training.prepare to its end first")
    return from_plain(DatasetInfo, json.loads(path.read_text()))


def normalisation_for(kind: str, info: DatasetInfo) -> Normalisation:
    """The model's normalisation of a kind, `zscore` or `ct`; `ct` uses this data set's statistics."""
    if kind == "zscore":
        return Normalisation("zscore")
    return Normalisation("ct", clip_hu=info.clip_hu, mean=info.mean_hu, std=info.std_hu)


def refuse_other_crop(one: str, own: CropSpec, other: str, wanted: CropSpec) -> None:
    """Raise ValueError where two crops differ. The message calls what they belong to `one` and `other`."""
    if own != wanted:
        a, b = to_plain(own), to_plain(wanted)
        names = [name for name in a if a[name] != b[name]]
        given, expected = (", ".join(f"crop.{name} {values[name]}" for name in names) for values in (a, b))
        raise ValueError(f"{one} has {given} where {other} has {expected}: CTs must be cropped alike")
