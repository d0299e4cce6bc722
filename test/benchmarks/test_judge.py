"""Verdicts on what a contender leaves."""

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.judge import JudgedCase, Verdict
from lnq.image.itk import read_volume, write_volume
from lnq.inference.calibration import Calibration
from lnq.inference.spec import ModelSpec


@pytest.fixture
def spec(tiny_bundle) -> ModelSpec:
    return ModelSpec.load(tiny_bundle)


def test_a_peer_is_judged_on_the_grid_of_the_ct(ct, spec, tmp_path, thorax, make_run):
    truth = np.zeros(thorax.shape, np.uint8)
    truth[20:26, 24:30, 28:34] = 1
    write_volume(thorax.with_array(truth), tmp_path / "truth.nrrd")
    case = JudgedCase.load(ct, tmp_path / "truth.nrrd", spec, tmp_path)
    box = read_volume(case.crop)
    np.testing.assert_array_equal(box.array, case.ready.cropped.array)
    mask = case.ready.orientation.apply(truth)[case.ready.crop.box]
    ours = np.where(mask > 0, np.float32(0.75), np.float32(0.25))
    write_volume(box.with_array(mask), tmp_path / "mask.mha")
    write_volume(box.with_array(ours + np.float32(0.125)), tmp_path / "probability.mha")
    verdict = case.judge(make_run("monai", 1.0), tmp_path, ours, spec)
    assert verdict.difference == pytest.approx(0.125)
    assert verdict.dice_own == 1.0
    calibrated = dataclasses.replace(spec, calibration=Calibration(1.0, -1.0))  # odds times 1 / e
    write_volume(box.with_array(np.full_like(ours, 0.5)), tmp_path / "probability.mha")
    ours = np.full_like(ours, 1 / (1 + np.e))
    assert case.judge(make_run("monai", 1.0), tmp_path, ours, calibrated).difference == pytest.approx(0, abs=1e-6)


def test_without_truth_or_mask_there_is_nothing_to_judge(ct, spec, tmp_path, make_run):
    case = JudgedCase.load(ct, None, spec, tmp_path)
    assert case.judge(make_run("reference", 1.0, mask=None), tmp_path, None, spec) == Verdict()
    write_volume(read_volume(case.crop), tmp_path / "probability.mha")
    own = case.judge(make_run("lnq", 1.0), tmp_path, None, spec)
    assert all(math.isnan(value) for value in (own.difference, own.dice_own, own.dice_rules))


def test_a_truth_of_another_grid_is_refused(ct, spec, tmp_path, thorax):
    smaller = thorax.crop((slice(1, None), slice(None), slice(None)))
    write_volume(smaller, tmp_path / "truth.nrrd")
    with pytest.raises(ValueError, match=r"truth\.nrrd is not on the grid of"):
        JudgedCase.load(ct, tmp_path / "truth.nrrd", spec, tmp_path)
