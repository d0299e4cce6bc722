"""Prepared cases on disk: compressed arrays readable by chunk (blosc2) beside a small JSON description.

    DIR/dataset.json                              statistics over all cases
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from lnq.files import write_text
from lnq.spec import IntTriple, Normalisation, Triple, from_plain

AIR_HU = -1024
CHUNK = (32, 64, 64)  # a patch touches few of these; each holds 256 KB of HU


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
    provenance: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path) -> CaseInfo:
        """Of one prepared case."""
        return from_plain(CaseInfo, json.loads((folder / "case.json").read_text()))


@dataclass(frozen=True)
class DatasetInfo:
    """What `dataset.json` says: statistics that normalisation and post-processing need (METHOD sections 2 and 7)."""

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
        """The whole array `image`, `label` or `region`."""
        return self._open(name)[:]

    def box(self, name: str, start: npt.ArrayLike, size: IntTriple) -> np.ndarray:
        """Array `name` in a box that may reach out of the case: air there in the image, 0 elsewhere."""
        first = np.asarray(start)
        low, high = np.maximum(first, 0), np.minimum(first + size, self.info.shape)
        fill = AIR_HU if name == "image" else 0
        if (low >= high).any():
            return np.full(size, fill, dtype=np.int16 if name == "image" else np.uint8)
        inside = self._open(name)[tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))]
        if inside.shape == tuple(size):
            return inside
        out = np.full(size, fill, dtype=inside.dtype)
        out[tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))] = inside
        return out

    def _open(self, name: str) -> Any:
        if name not in self._arrays:
            self._arrays[name] = blosc2.open(str(self._folder / f"{name}.b2nd"), mode="r")
        return self._arrays[name]

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
    for name, array in (("image", image.astype(np.int16)), ("label", label), ("region", region)):
        array = array if array.dtype == np.int16 else array.astype(np.uint8)
        chunks = tuple(min(c, s) for c, s in zip(CHUNK, array.shape, strict=True))
        blosc2.asarray(
            np.ascontiguousarray(array),
            urlpath=str(temporary / f"{name}.b2nd"),
            chunks=chunks,
            cparams={
                "codec": blosc2.Codec.ZSTD,
                "clevel": 5,
                "filters": [blosc2.Filter.BITSHUFFLE],
                "nthreads": 1,
            },
        )
    np.save(temporary / "points.npy", points.astype(np.int16))
    (temporary / "case.json").write_text(json.dumps(dataclasses.asdict(info), indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def case_folders(data: Path) -> list[Path]:
    """The complete cases of a prepared folder, by name. Raises ValueError where there is none."""
    folders = sorted(f.parent for f in Path(data).glob("*/case.json") if not f.parent.name.startswith("."))
    if not folders:
        raise ValueError(f"{data} holds no prepared case: run python -m training.prepare first")
    return folders


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
