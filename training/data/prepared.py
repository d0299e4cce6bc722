"""Prepared cases on disk: compressed arrays readable by chunk (blosc2) beside a small JSON description.

    DIR/dataset.json                              statistics over the cases for training
    DIR/splits.csv                                which cases train, validate and test (see `training.data.splits`)
    DIR/<case>/image.b2nd label.b2nd region.b2nd  HU int16; 1 = annotated node; 1 = mediastinal region. [Z, Y, X]
    DIR/<case>/points.npy                         int16 [N, 3], a random sample of the region's voxels
    DIR/<case>/case.json                          the fields of `CaseInfo`

Neither SimpleITK nor OpenVINO is needed to read them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from lnq.files import write_text
from lnq.inference.spec import IntTriple, Normalisation, Triple
from lnq.plain import from_plain

AIR_HU = -1024
CHUNK = (32, 64, 64)  # a patch touches few of these; each holds 256 KB of HU
_AGAIN = "delete the case's folder and run training.prepare again"
STRAY_VOXELS = 2  # of the prepared grid: less is a stray piece of an annotation, not a node


@dataclass(frozen=True)
class CaseInfo:
    """What `case.json` says. `full` means that every node is annotated, so that the background can be trusted."""

    case: str
    full: bool
    shape: IntTriple
    spacing_mm: Triple
    mean_hu: float  # of the cropped image, for normalisation `zscore`
    std_hu: float
    node_centres: tuple[tuple[int, int, int], ...]  # a voxel near the middle of each annotated component
    node_volumes_mm3: tuple[float, ...]  # of the components on the label's own grid, before resampling
    label_lost: float  # part of the annotated volume that lies outside the crop
    hu_counts: dict[str, int] = field(default_factory=dict)  # how often each HU occurs under the annotation
    patient: str = ""
    notes: tuple[str, ...] = ()  # what was unusual about it, one sentence each
    provenance: dict[str, Any] = field(default_factory=dict)  # files or DICOM UIDs, spacing, and how it was cropped

    @staticmethod
    def read(folder: Path) -> CaseInfo:
        """Of one prepared case. Raises ValueError where its case.json is damaged."""
        try:
            return from_plain(CaseInfo, json.loads((folder / "case.json").read_text()))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"{folder / 'case.json'} is damaged: {_AGAIN}") from None


@dataclass(frozen=True)
class DatasetInfo:
    """What `dataset.json` says: statistics of the cases for training (of all, where none is for training).

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
    provenance: dict[str, Any] = field(default_factory=dict)


class PreparedCase:
    """One case, read by box; held decompressed in memory where `cache` is set."""

    def __init__(self, folder: Path, cache: bool = False) -> None:
        self.info = CaseInfo.read(folder)
        self.points: npt.NDArray[np.int16] = np.load(folder / "points.npy", allow_pickle=False)
        self._folder = folder
        self._arrays: dict[str, Any] = {}
        if cache:
            self._arrays = {name: self.whole(name) for name in ("image", "label")}

    def whole(self, name: str) -> np.ndarray:
        """The whole array `image`, `label` or `region`. Raises ValueError where its file is damaged."""
        return self._read(name, (slice(None),) * 3)

    def box(self, name: str, start: npt.ArrayLike, size: IntTriple) -> np.ndarray:
        """Array `name` in a box that may reach out of the case: air there in the image, 0 elsewhere.

        Raises ValueError where its file is damaged.
        """
        first = np.asarray(start)
        low, high = np.maximum(first, 0), np.minimum(first + size, self.info.shape)
        fill = AIR_HU if name == "image" else 0
        if (low >= high).any():
            return np.full(size, fill, dtype=np.int16 if name == "image" else np.uint8)
        inside = self._read(name, tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)))
        if inside.shape == tuple(size):
            return inside
        out = np.full(size, fill, dtype=inside.dtype)
        out[tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))] = inside
        return out

    def _read(self, name: str, box: tuple[slice, ...]) -> np.ndarray:
        path = self._folder / f"{name}.b2nd"
        try:
            if name not in self._arrays:
                one_thread = blosc2.DParams(nthreads=1)  # chunks are small, and loader workers run side by side
                self._arrays[name] = blosc2.open(str(path), mode="r", dparams=one_thread)
            return np.asarray(self._arrays[name][box])
        except Exception as error:  # blosc2 raises many kinds
            raise ValueError(f"{path} cannot be read ({error}): {_AGAIN}") from error

    def __getstate__(self) -> dict[str, Any]:
        opened = {name: a for name, a in self._arrays.items() if isinstance(a, np.ndarray)}
        return self.__dict__ | {"_arrays": opened}


def write_case(
    folder: Path, info: CaseInfo, image: np.ndarray, label: np.ndarray, region: np.ndarray, points: np.ndarray
) -> None:
    """Write a case so that its folder appears only when it is complete."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write_files(temporary, info, image, label, region, points)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_files(
    folder: Path, info: CaseInfo, image: np.ndarray, label: np.ndarray, region: np.ndarray, points: np.ndarray
) -> None:
    for name, array in (("image", image.astype(np.int16)), ("label", label), ("region", region)):
        array = array if array.dtype == np.int16 else array.astype(np.uint8)
        chunks = tuple(min(c, s) for c, s in zip(CHUNK, array.shape, strict=True))
        blosc2.asarray(
            np.ascontiguousarray(array),
            urlpath=str(folder / f"{name}.b2nd"),
            chunks=chunks,
            cparams={
                "codec": blosc2.Codec.ZSTD,
                "clevel": 5,
                "filters": [blosc2.Filter.BITSHUFFLE],
                "nthreads": 1,
            },
        )
    np.save(folder / "points.npy", points.astype(np.int16))
    (folder / "case.json").write_text(json.dumps(dataclasses.asdict(info), indent=1) + "\n")


def case_folders(data: Path) -> list[Path]:
    """The complete cases of a prepared folder, by name. Raises ValueError where there is none."""
    folders = sorted(f.parent for f in Path(data).glob("*/case.json") if not f.parent.name.startswith("."))
    if not folders:
        raise ValueError(f"{data} holds no prepared case: run python -m training.prepare first")
    return folders


def count_hu(hu: np.ndarray) -> dict[str, int]:
    """How often each HU occurs, as JSON can hold it."""
    levels, counts = np.unique(hu, return_counts=True)
    return {str(level): int(count) for level, count in zip(levels, counts, strict=True)}


def dataset_info(infos: Sequence[CaseInfo], failed: Sequence[str], provenance: dict[str, Any]) -> DatasetInfo:
    """Statistics over the cases given: HU under the annotation (at the prepared spacing), smallest annotated node.

    Components below two voxels of the prepared grid do not count as nodes. Raises ValueError where no case is left.
    """
    counts: dict[int, int] = {}
    for info in infos:
        for level, count in info.hu_counts.items():
            counts[int(level)] = counts.get(int(level), 0) + count
    if not counts:
        raise ValueError("No case could be prepared: " + "; ".join(failed))
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
        provenance=provenance,
    )


def _percentile(levels: np.ndarray, weights: np.ndarray, percent: float) -> float:
    below = np.cumsum(weights) / weights.sum()
    return float(levels[min(int(np.searchsorted(below, percent / 100.0)), len(levels) - 1)])


def write_dataset_info(data: Path, info: DatasetInfo) -> None:
    """Write `dataset.json` atomically."""
    write_text(data / "dataset.json", json.dumps(dataclasses.asdict(info), indent=1) + "\n")


def read_dataset_info(data: Path) -> DatasetInfo:
    """Read `dataset.json`. Raises ValueError where the folder was not prepared to the end."""
    path = Path(data) / "dataset.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: run python -m training.prepare to its end first")
    return from_plain(DatasetInfo, json.loads(path.read_text()))


def normalisation_for(kind: str, info: DatasetInfo) -> Normalisation:
    """The model's normalisation; `ct` with the numbers of this data set."""
    if kind == "zscore":
        return Normalisation("zscore")
    return Normalisation("ct", clip_hu=info.clip_hu, mean=info.mean_hu, std=info.std_hu)
