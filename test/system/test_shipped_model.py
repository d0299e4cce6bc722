"""The bundle in model/ on the sample CT, on re-oriented copies of it and, where they are at hand, on real CTs."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT

from lnq import cli
from lnq.anatomy.crop import find_crop
from lnq.dicom.read import read_dicom_series
from lnq.image.itk import read_volume
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.inference.backends import Model, load_model
from lnq.nodes.metrics import dice
from lnq.pipeline import segment

SAMPLE = ROOT / "test/input/images/mediastinal-ct/phantom-8000.mha"
TRUTH = ROOT / "test/expected/phantom-8000.mha"
LEAST_DICE = 0.8  # the shipped model has 0.855


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(ROOT / "model", "cpu")


@pytest.fixture(scope="module")
def sample() -> Volume:
    return read_volume(SAMPLE)


@pytest.fixture(scope="module")
def mask(sample: Volume, model: Model) -> np.ndarray:
    return segment(sample, model).mask.array


def test_nodes_of_the_sample_are_found(mask):
    assert dice(mask, read_volume(TRUTH).array) >= LEAST_DICE


@pytest.mark.parametrize(
    ("axes", "flips"),
    [
        pytest.param((2, 0, 1), (1, 1, 1), marks=pytest.mark.slow),
        pytest.param((0, 1, 2), (-1, -1, 1), marks=pytest.mark.slow),
        ((1, 2, 0), (-1, 1, -1)),
    ],
)
def test_reoriented_copies_give_the_same_nodes(sample, model, mask, axes, flips):
    turn = tuple(slice(None, None, f) for f in flips)
    affine = sample.affine.copy()
    for axis, flip in enumerate(flips):
        if flip < 0:
            affine[:3, 3] += affine[:3, axis] * (sample.shape[axis] - 1)
            affine[:3, axis] *= -1
    turned = Volume(np.ascontiguousarray(sample.array[turn].transpose(axes)), affine[:, [*axes, 3]])
    assert dice(segment(turned, model).mask.array, mask[turn].transpose(axes)) >= 0.95


def test_rotated_direction_cosines_give_the_same_nodes(sample, model, mask):
    c, s = np.cos(0.2), np.sin(0.2)
    rotation = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    rotated = Volume(sample.array, rotation @ sample.affine)
    assert dice(segment(rotated, model).mask.array, mask) >= 0.95


@pytest.mark.slow
def test_every_real_ct_is_segmented_within_its_mediastinum(request, tmp_path):
    """`pytest -m slow --real-ct DIR`: a folder of chest CTs as DICOM series or image files."""
    folder = request.config.getoption("--real-ct")
    if folder is None:
        pytest.skip("no real CTs here: give their folder by --real-ct")
    assert cli.main(["batch", folder, "-o", str(tmp_path), "--model", str(ROOT / "model")]) == 0
    entries = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert entries
    for entry in entries:
        found = reorient_to_lps(read_volume(tmp_path / entry["mask"]))[0]
        path = Path(entry["input"])
        volume = reorient_to_lps(read_dicom_series(path).volume if path.is_dir() else read_volume(path))[0]
        crop = find_crop(volume)
        assert not crop.apply(found).array[~crop.region].any()
        assert found.array.sum() == crop.apply(found).array.sum()
