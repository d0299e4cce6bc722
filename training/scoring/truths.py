"""Find the cases that can be scored: truths, their CTs, and masks made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.image.components import label
from lnq.image.itk import read_volume
from lnq.image.names import CT, EXTENSIONS, LABEL, NODES, case_of, stem
from lnq.image.volume import Volume

GRID_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class Truth:
    """A case with complete truth. Scoring existing masks needs no CT."""

    case: str
    path: Path
    ct: Path | None


def find_truths(sources: Sequence[Path], need_ct: bool = True) -> tuple[list[Truth], dict[str, str]]:
    """Find the cases of all folders, sorted by name in each, and why other cases are left out.

    A truth is `<case>-nodes.<ext>` or else `<case>-seg.<ext>`, and its CT is `<case>-ct.<ext>`. Where no CT is needed,
    a truth may stand alone and may also be `<case>.<ext>`. Raises ValueError where a folder is missing, where two files
    are of one case, and where no truth is found.
    """
    truths: dict[str, Truth] = {}
    left_out: dict[str, str] = {}
    for source in sources:
        files = _images(source)
        for case in sorted({case_of(name) for name in files}):
            ct = files.get(f"{case}{CT}")
            kinds = (f"{case}{NODES}", f"{case}{LABEL}", *(() if need_ct else (case,)))
            path = next((files[kind] for kind in kinds if kind in files), None)
            if path is not None and (ct is not None or not need_ct):
                if case in truths:
                    raise ValueError(f"{truths[case].path} and {path} are of one name: score their folders one by one")
                truths[case] = Truth(case, path, ct)
            elif ct is not None:
                left_out[case] = f"{ct.name} has neither {case}{NODES} nor {case}{LABEL} beside it"
    if not truths:
        wanted = "CT named <case>-ct with its truth" if need_ct else "truth"
        reasons = "".join(f"; {reason}" for reason in left_out.values())
        raise ValueError(f"No {wanted} in {', '.join(map(str, sources))}{reasons}")
    return list(truths.values()), left_out


def _images(folder: Path) -> dict[str, Path]:
    """The folder's image files by their names without extension."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.lower().endswith(EXTENSIONS) and not path.name.startswith("."):
            if stem(path) in files:
                raise ValueError(f"{files[stem(path)]} and {path.name} are of one name: keep one")
            files[stem(path)] = path
    return files


def read_instances(path: Path) -> Volume:
    """Read a truth with one label per node, int32. Unless the file holds instances, components are labelled."""
    truth = read_volume(path)
    array = truth.array.astype(np.int32)
    if not stem(path).endswith(NODES):
        array = label(array > 0)[0]
    return truth.with_array(array)


def read_prediction(folder: Path, truth: Truth) -> Volume:
    """Read the case's mask from a folder of masks.

    Its name is `<case>.<ext>`, or `<case>/segmentation.<ext>` as `process.py batch` writes it, or one of these with the
    CT's name `<case>-ct`. Raises ValueError (or ImageError, which is one) where there is no file or two, and where the
    file is not a mask.
    """
    found = sorted(_prediction_files(folder, truth.case))
    if not found:
        names = f"{truth.case}.<ext>, {truth.case}{CT}.<ext> or {truth.case}/segmentation.<ext>"
        raise ValueError(f"{folder} has no prediction for it, named {names}")
    if len(found) > 1:
        one, other = (path.relative_to(folder) for path in found[:2])
        raise ValueError(f"{folder} has two predictions for it, {one} and {other}")
    own = found[0].resolve()
    if own == truth.path.resolve() or (truth.ct is not None and own == truth.ct.resolve()):
        raise ValueError(f"{found[0]} is its truth or its CT, not a prediction")
    mask = read_volume(found[0])
    if mask.array.size and (mask.array.min() < 0 or not np.array_equal(mask.array, np.trunc(mask.array))):
        raise ValueError(f"{found[0].name} is no mask: it has values below 0 or between whole numbers")
    return mask


def _prediction_files(folder: Path, case: str) -> Iterator[Path]:
    for name in (case, f"{case}{CT}"):
        for extension in EXTENSIONS:
            paths = (folder / f"{name}{extension}", folder / name / f"segmentation{extension}")
            yield from (path for path in paths if path.is_file())


def refuse_other_grid(name: str, volume: Volume, truth: Truth, instances: Volume) -> None:
    """Raise ValueError where a volume is not on its truth's grid. The message calls it `name`."""
    if volume.shape != instances.shape or not np.allclose(volume.affine, instances.affine, atol=GRID_TOLERANCE_MM):
        raise ValueError(f"{name} is not on the grid of {truth.path.name}")
