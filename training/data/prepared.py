"""Prepared cases on disk: compressed arrays readable by chunk (blosc2) beside a small JSON description.

    DIR/dataset.json                              statistics over the cases (see `training.data.dataset_info`)
    DIR/splits.csv                                which cases train, validate and test (see `training.data.splits`)
    DIR/<case>/image.b2nd label.b2nd region.b2nd  HU int16; 1 = annotated node; 1 = mediastinal region. [Z, Y, X]
    DIR/<case>/certain.b2nd certain.json          1 = certainly no node (see `training.data.certain`)
    DIR/<case>/told.b2nd                          1 = no node, by the source; only where the source tells unknown apart
    DIR/<case>/measures.json                      for the data set's page (see `training.data.measures`)
    DIR/<case>/points.npy                         int16 [N, 3], a random sample of the region's voxels
    DIR/<case>/wrong.npy wrong.json               where a network was wrong (see `training.data.mining`)
    DIR/<case>/case.json                          the fields of `CaseInfo`

Neither SimpleITK nor OpenVINO is needed to read them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from lnq.files import replace_folder
from lnq.inference.spec import DEFAULT_CROP, CropSpec, IntTriple, Triple
from lnq.plain import from_plain, to_plain

AIR_HU = -1024
CHUNK = (32, 64, 64)  # voxels: a chunk holds 256 KB of HU, and a patch touches few chunks
_AGAIN = "delete the case's folder and run training.prepare again"
CROPPED = "crop"  # key in a case's provenance for how its CT was cropped
WRONG_PLACES = "wrong.npy"
STRAY_VOXELS = 2  # on the prepared grid: a component with fewer is a stray piece, not a node


@dataclass(frozen=True)
class CaseInfo:
    """The content of `case.json`. `full` means that every node is annotated, so that background can be trusted."""

    case: str
    full: bool
    shape: IntTriple
    spacing_mm: Triple
    mean_hu: float  # of the cropped image, for normalisation `zscore`
    std_hu: float
    node_centres: tuple[tuple[int, int, int], ...]  # a voxel near the middle of each annotated component
    node_volumes_mm3: tuple[float, ...]  # components on the label's own grid, before resampling
    label_lost: float  # fraction of the annotated voxels that lies outside the crop
    hu_counts: dict[str, int] = field(default_factory=dict)  # how often each HU occurs under the annotation
    patient: str = ""
    notes: tuple[str, ...] = ()  # what was unusual, one sentence each
    crop: CropSpec = DEFAULT_CROP  # files without this entry used the defaults
    provenance: dict[str, Any] = field(default_factory=dict)  # files or DICOM UIDs, spacing, and where the crop lies
    told: bool = False  # the source tells background and unknown apart, in `told.b2nd`

    @staticmethod
    def read(folder: Path) -> CaseInfo:
        """Read one prepared case's file. Raises ValueError where it is damaged, OSError where it is missing."""
        try:
            return from_plain(CaseInfo, json.loads((folder / "case.json").read_text()))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ValueError(f"{folder / 'case.json'} is damaged: {_AGAIN}") from None


class PreparedCase:
    """One case, read by box. With `cache`, the arrays that patches are taken from are held decompressed in memory."""

    def __init__(self, folder: Path, cache: bool = False, arrays: Sequence[str] = ("image", "label")) -> None:
        self.info = CaseInfo.read(folder)
        self.points: npt.NDArray[np.int16] = np.load(folder / "points.npy", allow_pickle=False)
        mined = folder / WRONG_PLACES
        self.wrong: npt.NDArray[np.int16] | None = np.load(mined, allow_pickle=False) if mined.is_file() else None
        self._folder = folder
        self._arrays: dict[str, Any] = {}
        if cache:
            self._arrays = {name: self.whole(name) for name in arrays}

    def whole(self, name: str) -> np.ndarray:
        """A whole array by its file's name, [Z, Y, X]. Raises ValueError where the file is damaged or missing."""
        return self._read(name, (slice(None),) * 3)

    def box(self, name: str, start: npt.ArrayLike, size: IntTriple) -> np.ndarray:
        """Array `name` in a box with first voxel `start` and `size`, both (z, y, x).

        Outside the case the image is air and certain background, other arrays are 0. Raises ValueError where the file
        is damaged.
        """
        first = np.asarray(start)
        low, high = np.maximum(first, 0), np.minimum(first + size, self.info.shape)
        fill = {"image": AIR_HU, "certain": 1}.get(name, 0)
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
    folder: Path,
    info: CaseInfo,
    image: np.ndarray,
    label: np.ndarray,
    region: np.ndarray,
    points: np.ndarray,
    told: np.ndarray | None = None,
) -> None:
    """Write a case: `image` in HU, `label`, `region` and maybe `told`, all [Z, Y, X], and `points` [N, 3].

    The folder appears only once it is complete. An earlier one stays until then.
    """
    temporary, before = (folder.with_name(f".{folder.name}.{os.getpid()}{end}") for end in ("", ".old"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        arrays = {"image": image.astype(np.int16), "label": label, "region": region}
        _write_files(temporary, info, arrays if told is None else arrays | {"told": told}, points)
        replace_folder(temporary, folder, before)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(before, ignore_errors=True)


def _write_files(folder: Path, info: CaseInfo, arrays: Mapping[str, np.ndarray], points: np.ndarray) -> None:
    for name, array in arrays.items():
        array = array if array.dtype == np.int16 else array.astype(np.uint8)
        (folder / f"{name}.b2nd").write_bytes(packed(array))  # blosc2 itself does not report a full disk
    np.save(folder / "points.npy", points.astype(np.int16))
    (folder / "case.json").write_text(json.dumps(to_plain(info), indent=1) + "\n")


def packed(array: np.ndarray) -> bytes:
    """An array as the content of a `.b2nd` file."""
    chunks = tuple(min(c, s) for c, s in zip(CHUNK, array.shape, strict=True))
    cparams = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 5,
        "filters": [blosc2.Filter.BITSHUFFLE],
        "nthreads": 1,
    }
    frame: bytes = blosc2.asarray(
        np.ascontiguousarray(array), contiguous=True, chunks=chunks, cparams=cparams
    ).to_cframe()
    return frame


def case_folders(data: Path) -> list[Path]:
    """Folders of the complete prepared cases in `data`, sorted by name. Raises ValueError where there is none."""
    folders = sorted(f.parent for f in Path(data).glob("*/case.json") if not f.parent.name.startswith("."))
    if not folders:
        raise ValueError(f"{data} holds no prepared case: run python -m training.prepare first")
    return folders


def count_hu(hu: np.ndarray) -> dict[str, int]:
    """How often each HU occurs, with text as keys for JSON."""
    levels, counts = np.unique(hu, return_counts=True)
    return {str(level): int(count) for level, count in zip(levels, counts, strict=True)}
