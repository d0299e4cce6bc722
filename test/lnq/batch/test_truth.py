"""Truths: found by the cases' names, brought to the CT's grid, and scored against."""

from pathlib import Path

import numpy as np
import pytest

from lnq.archive.case import ImageFile
from lnq.batch.truth import read_truth, score, truth_path, truth_sha256
from lnq.errors import ImageError
from lnq.files import file_sha256
from lnq.image.itk import write_volume

CASE = ImageFile("renamed", Path("/in/x-ct.nrrd"))


@pytest.mark.parametrize("name", ["x-ct.mha", "x-seg.nrrd", "x-seg.nii.gz"])
def test_a_truth_bears_the_name_of_its_ct(tmp_path, name):
    assert truth_path(CASE, None) is None
    assert truth_sha256(CASE, str(tmp_path)) is None
    (tmp_path / "y-seg.nrrd").touch()
    (tmp_path / name).write_text("a")
    assert truth_path(CASE, str(tmp_path)) == tmp_path / name
    assert truth_sha256(CASE, str(tmp_path)) == file_sha256(tmp_path / name)


def test_a_truth_on_another_grid_is_brought_to_the_cts(tmp_path, thorax):
    mask = thorax.with_array((thorax.array > 100).astype(np.uint8))
    write_volume(mask.crop((slice(10, 30), slice(None), slice(None))), tmp_path / "x-seg.nrrd")
    truth = read_truth(CASE, str(tmp_path), thorax)
    assert truth is not None
    np.testing.assert_array_equal(truth.array[10:30], mask.array[10:30])
    assert not truth.array[:10].any() and not truth.array[30:].any()


def test_a_damaged_truth_is_named_as_the_truth(tmp_path, thorax):
    (tmp_path / "x-seg.nrrd").write_text("no image")
    with pytest.raises(ImageError, match=r"^x-seg.nrrd cannot be read: it is not a medical image") as caught:
        read_truth(CASE, str(tmp_path), thorax)
    assert caught.value.message.without_names("1a2b").startswith("its truth cannot be read: it is not a medical image")


def test_scores_are_rounded_and_an_empty_mask_has_no_distance(thorax):
    truth = thorax.with_array(np.zeros(thorax.shape, np.uint8))
    truth.array[20:24, 20:24, 20:24] = 1
    half = truth.with_array(truth.array.copy())
    half.array[22:] = 0
    found = score(half, truth, "ab")
    assert (found.dice, found.truth_sha256) == (round(2 * 32 / (32 + 64), 4), "ab")
    assert score(truth.with_array(np.zeros_like(truth.array)), truth, "ab").assd_mm is None
