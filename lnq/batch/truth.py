"""Truth masks to compare results with. They are named like the cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from lnq.archive.case import Case, image_files
from lnq.errors import ImageError
from lnq.files import file_sha256
from lnq.image.itk import read_volume
from lnq.image.names import CT, EXTENSIONS, LABEL
from lnq.image.resample import resample_label_to
from lnq.image.volume import Volume
from lnq.nodes.metrics import assd_mm, dice
from lnq.results.case_record import TruthScores


def truth_path(case: Case, folder: str | None) -> Path | None:
    """The mask in `folder` with the case's plain name (or `x-seg` for a CT `x-ct`); None where there is none."""
    if folder is None:
        return None
    name = case.plain_name
    names = [name, name.removesuffix(CT) + LABEL] if name.endswith(CT) else [name]
    paths = (Path(folder) / f"{n}{extension}" for n in names for extension in EXTENSIONS)
    return next((p for p in paths if p.is_file()), None)


def truth_sha256(case: Case, folder: str | None) -> str | None:
    """Digest of the contents of the case's truth; None where there is none."""
    path = truth_path(case, folder)
    if path is None:
        return None
    digests = [file_sha256(file) for file in image_files(path)]
    return digests[0] if len(digests) == 1 and not case.key else case.digest("".join(digests))


def read_truth(case: Case, folder: str | None, grid: Volume) -> Volume | None:
    """The case's truth, on the CT's grid; None where there is none. Raises ImageError where it cannot be read."""
    path = truth_path(case, folder)
    if path is None:
        return None
    try:
        truth = read_volume(path)
    except ImageError as error:
        raise ImageError("{truth}", truth=error.message.about("its truth")) from error
    if truth.shape == grid.shape and np.allclose(truth.affine, grid.affine, atol=1e-3):
        return truth
    return resample_label_to(truth, grid)


def score(mask: Volume, truth: Volume, sha256: str) -> TruthScores:
    """Dice and ASSD of a mask against the truth on the same grid, rounded for the record. `sha256` is the truth's."""
    distance, overlap = assd_mm(mask, truth), dice(mask.array, truth.array)
    return TruthScores(round(overlap, 4), round(distance, 3) if math.isfinite(distance) else None, sha256)
