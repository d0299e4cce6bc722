"""The peers give what this project gives, where it works as they do: the adapters leave nothing out and turn nothing.

The CT's grid is the network's, its size a whole number of half patches more than a patch: all lay the same windows.
"""

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage

from benchmarks.bundles import write_random_bundle
from benchmarks.peers.contenders import run_contender
from benchmarks.peers.stages import ContenderJob, Stages
from lnq.files import file_sha256
from lnq.image.itk import read_volume, write_volume
from lnq.image.resample import resample_array_to, resample_image
from lnq.image.volume import Volume, make_affine
from lnq.inference.backends import load_model
from lnq.inference.normalise import normalise
from lnq.inference.sliding_window import gaussian_weights, sliding_window, windows
from lnq.inference.spec import WEIGHTS_NAME, CropSpec, ModelSpec, NetworkSpec, Normalisation

pytest.importorskip("nnunetv2")
compute_importance_map = pytest.importorskip("monai.data.utils").compute_importance_map

PATCH, SPACING_MM = (16, 24, 32), (3.0, 2.0, 1.5)  # no two alike: an exchange of axes shows
RULES = {
    "zscore": Normalisation("zscore"),
    "ct": Normalisation("ct", clip_hu=(-160.0, 240.0), mean=40.0, std=70.0),
}


@pytest.fixture(params=["zscore", "ct"])
def bundle(request, tmp_path) -> Path:
    """Of a tiny network whose logits differ from place to place."""
    network = NetworkSpec(channels=(4, 8), kernels=((1, 3, 3), (3, 3, 3)), strides=((1, 2, 2),), dropout=(0.0, 0.0))
    spec = ModelSpec(network, PATCH, SPACING_MM, RULES[request.param], crop=CropSpec(use_region=False))
    bundle = write_random_bundle(spec, tmp_path / "bundle")
    weights = load_file(bundle / WEIGHTS_NAME)
    for name in ("decoder.head.weight", "decoder.head.bias"):
        weights[name] = weights[name] * 3  # probabilities from near 0 to near 1
    save_file(weights, bundle / WEIGHTS_NAME)
    spec = ModelSpec.load(bundle)
    sums = spec.sha256 | {WEIGHTS_NAME: file_sha256(bundle / WEIGHTS_NAME)}
    dataclasses.replace(spec, sha256=sums).save(bundle)
    return bundle


def crop_file(folder: Path, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Path:
    """Smooth noise without symmetry around soft tissue, in a box that lies anywhere in the patient."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, shape), 1.5)
    ramp = np.linspace(-100, 100, shape[0])[:, None, None] + np.linspace(0, 80, shape[2])
    array = (noise / noise.std() * 120 + ramp).round().astype(np.int16)
    path = folder / "crop.nii"
    write_volume(Volume(array, make_affine(spacing_mm, (-31.0, 12.0, -250.0))), path)
    return path


def ours(bundle: Path, crop: Path, mirror: int = 0) -> np.ndarray:
    """Probability of this project's windows over the whole box, run by the peers' torch."""
    model, volume = load_model(bundle, "cpu-torch"), read_volume(crop)
    image = resample_image(volume, model.spec.spacing_mm)
    normal = normalise(image.array, model.spec.normalisation)
    return resample_array_to(
        sliding_window(normal, model.networks[0].predict, model.spec.patch, 0.5, mirror), image, volume
    )


def weighty(shape: tuple[int, ...]) -> np.ndarray:
    """Where windows have some weight: nnU-Net's are float16, and in a window's corners keep no digits of the logits."""
    weight = np.zeros(shape, np.float32)
    for window in windows(np.ones(shape, bool), PATCH, 0.5):
        weight[window.place] += gaussian_weights(PATCH)
    return weight > 1e-3


def theirs(name: str, bundle: Path, crop: Path) -> tuple[Volume, Volume, int]:
    """Probability, mask and calls of the network."""
    output = crop.parent / name
    output.mkdir()
    result = run_contender(name, ContenderJob(bundle, crop, crop, output), Stages(0.0))
    return result.probability(), read_volume(result.mask), result.windows


@pytest.mark.parametrize("name", ["monai", "nnunet"])
def test_one_window_gives_the_same_probability(name, bundle, tmp_path):
    crop = crop_file(tmp_path, PATCH, SPACING_MM)
    wanted = ours(bundle, crop)
    probability, mask, windows = theirs(name, bundle, crop)
    assert np.ptp(wanted) > 0.5  # else agreement would mean little
    assert windows == 1
    where = weighty(PATCH) if name == "nnunet" else np.ones(PATCH, bool)
    np.testing.assert_allclose(probability.array[where], wanted[where], atol=1e-5 if name == "monai" else 5e-3)
    for result in (probability, mask):
        np.testing.assert_allclose(result.affine, read_volume(crop).affine, atol=1e-4)
    sure = where & (np.abs(wanted - 0.5) > 0.01)
    np.testing.assert_array_equal(mask.array[sure] > 0, (wanted > 0.5)[sure])


MANY = tuple(p + n * p // 2 for p, n in zip(PATCH, (1, 2, 3), strict=True))


def test_many_windows_of_nnunet_give_the_same_probability(bundle, tmp_path):
    crop = crop_file(tmp_path, MANY, SPACING_MM)
    wanted = ours(bundle, crop)
    probability, _, windows = theirs("nnunet", bundle, crop)
    assert windows == 2 * 3 * 4
    difference = np.abs(probability.array - wanted)[weighty(MANY)]
    assert difference.mean() < 2e-4
    assert difference.max() < 5e-3


def test_many_windows_of_monai_give_the_same_probability_with_its_weights(bundle, tmp_path, monkeypatch):
    """Its Gaussian is centred between two voxels, half a voxel off, and nowhere below 0.001."""
    crop = crop_file(tmp_path, MANY, SPACING_MM)
    plain, where = ours(bundle, crop), weighty(MANY)
    monkeypatch.setattr(
        "lnq.inference.sliding_window.gaussian_weights", lambda patch: compute_importance_map(patch, "gaussian").numpy()
    )
    wanted = ours(bundle, crop)
    probability, _, windows = theirs("monai", bundle, crop)
    assert windows == 2 * 3 * 4
    np.testing.assert_allclose(probability.array, wanted, atol=1e-4)
    assert np.abs(probability.array - plain)[where].mean() < 0.01


def test_mirroring_is_the_mean_over_eight_flips(bundle, tmp_path):
    crop = crop_file(tmp_path, PATCH, SPACING_MM)
    wanted = ours(bundle, crop, mirror=8)
    probability, _, windows = theirs("nnunet-mirror", bundle, crop)
    assert windows == 8
    where = weighty(PATCH)
    np.testing.assert_allclose(probability.array[where], wanted[where], atol=5e-3)
    assert np.abs(wanted - ours(bundle, crop))[where].max() > 0.02


@pytest.mark.parametrize("name", ["monai", "nnunet"])
def test_another_spacing_is_resampled_there_and_back(name, tmp_path, monkeypatch):
    """A network that hands its input on: what comes back is the image, a ramp of another slope along each axis."""
    module = importlib.import_module(f"benchmarks.peers.run_{name}")

    class HandOn(torch.nn.Module):
        def forward(self, x):
            return torch.cat([torch.zeros_like(x), x], 1)

    network = NetworkSpec(channels=(4, 8), kernels=((1, 3, 3), (3, 3, 3)), strides=((1, 2, 2),), dropout=(0.0, 0.0))
    rule = Normalisation("ct", clip_hu=(-1000.0, 1000.0), mean=0.0, std=1000.0)
    spec = ModelSpec(network, PATCH, SPACING_MM, rule)
    monkeypatch.setattr(module, "load_network", lambda _: (spec, HandOn().eval()))
    volume = Volume(np.zeros((40, 90, 100), np.int16), make_affine((2.4, 1.1, 0.9), (-31.0, 12.0, -250.0)))
    z, y, x = (np.linspace(-1, 1, n) for n in volume.shape)
    ramp = 300 * z[:, None, None] + 120 * y[:, None] - 60 * x
    write_volume(volume.with_array(ramp.round().astype(np.int16)), tmp_path / "crop.nii")
    probability, mask, _ = theirs(name, tmp_path, tmp_path / "crop.nii")
    inner = (slice(6, -6),) * 3  # not its corners, where nnU-Net's float16 weights keep no digits
    np.testing.assert_allclose(probability.array[inner], (1 / (1 + np.exp(-ramp / 1000)))[inner], atol=2e-3)
    assert (mask.array > 0)[inner].mean() == pytest.approx((ramp > 0)[inner].mean(), abs=0.02)
