from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine
from training.scoring.evaluation import masks_of_folder, score_all
from training.scoring.truths import Truth, find_truths

QUIET = Console(quiet=True)


@pytest.fixture
def truths(tmp_path: Path) -> list[Truth]:
    """Two cases: a block in each."""
    array = np.zeros((6, 8, 8), np.uint8)
    array[2:4, 2:5, 2:5] = 1
    (tmp_path / "truth").mkdir()
    for name in ("a", "b"):
        write_volume(Volume(array, make_affine((3.0, 1.0, 1.0))), tmp_path / "truth" / f"{name}-seg.nrrd")
    return find_truths([tmp_path / "truth"], need_ct=False)[0]


def test_case_that_cannot_be_scored_ends_none_of_the_others(truths: list[Truth]) -> None:
    def masks(truth: Truth, instances: Volume) -> tuple[Volume, float]:
        if truth.case == "a":
            raise ValueError("it is cursed")
        return instances.with_array((instances.array > 0).astype(np.uint8)), 2.0

    scored = score_all(truths, masks, 3, QUIET)
    assert scored.failed == {"a": "it is cursed"}
    assert [(result.case, result.dice, result.seconds) for result in scored.results] == [("b", 1.0, 2.0)]


def test_masks_of_a_folder_took_no_known_time(truths: list[Truth], tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    empty = Volume(np.zeros((6, 8, 8), np.uint8), make_affine((3.0, 1.0, 1.0)))
    write_volume(empty, tmp_path / "masks" / "a.nrrd")
    write_volume(empty.crop(np.s_[1:, :, :]), tmp_path / "masks" / "b.nrrd")
    scored = score_all(truths, masks_of_folder(tmp_path / "masks"), 0, QUIET)
    assert scored.failed == {"b": "The prediction is not on the grid of b-seg.nrrd"}
    (result,) = scored.results
    assert result.dice == 0.0 and math.isnan(result.seconds)
    with pytest.raises(ValueError, match="nowhere is no folder"):
        masks_of_folder(tmp_path / "nowhere")
