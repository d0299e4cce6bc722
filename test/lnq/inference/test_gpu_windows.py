"""The code that runs on GPUs, on the CPU; the tests marked `gpu` on a device."""

from pathlib import Path

import numpy as np
import pytest

from lnq.image.volume import Volume
from lnq.inference.backends import load_model
from lnq.inference.sliding_window import Predict, sliding_window
from lnq.inference.spec import MIRRORINGS

torch = pytest.importorskip("torch")

from lnq.inference.gpu_windows import DeviceWindows, NotFinite  # noqa: E402  (imports torch)

PATCH = (4, 6, 8)
ONE = "The GPU's memory did not suffice: 1 window at a time."
BLENDED = "The GPU's memory did not suffice for the whole image: it was put together on the CPU."
ON_CPU = "The GPU's memory did not suffice for one window: the CPU did it."


class Slope(torch.nn.Module):
    """Log odds: three times the image, plus how far down, back and left a voxel lies in its window."""

    def __init__(self, short_of_memory: str | None = None, fits: int = 0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(3.0))
        self.batches: list[int] = []
        self._error, self._fits = short_of_memory, fits

    def forward(self, x):
        self.batches.append(len(x))
        if self._error is not None and len(x) > self._fits:
            raise torch.OutOfMemoryError() if self._error == "torch" else RuntimeError(self._error)
        ramp = sum(torch.arange(n).view([-1 if i == axis else 1 for i in range(3)]) for axis, n in enumerate(PATCH))
        return torch.cat([torch.ones_like(x), 1 + self.scale * x + ramp.to(x.dtype) / 10], dim=1)


class BatchesOf(DeviceWindows):
    """As if memory held so many windows."""

    fits = 3

    def _batch_that_fits(self) -> int:
        return self.fits


def networks(runner: DeviceWindows) -> list[int]:
    """Sizes of the batches that its network saw."""
    assert runner._moved is not None
    return runner._moved.batches  # type: ignore[return-value]


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, 15, 22)).astype(np.float32)


@pytest.fixture
def region(image) -> np.ndarray:
    region = np.zeros(image.shape, bool)
    region[2:8, 3:13, 5:20] = True
    return region


@pytest.mark.parametrize("mirror", MIRRORINGS)
@pytest.mark.parametrize("size", [(9, 15, 22), (2, 20, 5)])  # the second is padded
@pytest.mark.parametrize("with_region", [False, True])
def test_blending_on_the_device_is_that_of_the_cpu(size, mirror, with_region):
    rng = np.random.default_rng(1)
    image = rng.normal(size=size).astype(np.float32)
    region = rng.random(size) > 0.97 if with_region else None
    runner = BatchesOf(Slope(), "cpu")
    found, told = runner.sliding_window(image, PATCH, 0.5, mirror, region)
    wanted = sliding_window(image, DeviceWindows(Slope(), "cpu").predict, PATCH, 0.5, mirror, region)
    assert found.shape == size
    assert found.dtype == np.float32
    assert told == []
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_first_window_is_alone_and_the_rest_in_batches_that_fit(image):
    runner = BatchesOf(Slope(), "cpu", max_batch=8)
    runner.sliding_window(image, PATCH, 1.0, 0, None)
    assert networks(runner) == [1, *[3] * 8, 2]  # 3 x 3 x 3 windows
    runner.fits = 100
    runner.sliding_window(image, PATCH, 1.0, 0, None)
    assert networks(runner)[10:] == [1, 8, 8, 8, 2]


def test_nothing_is_run_for_an_empty_region(image):
    runner = DeviceWindows(Slope(), "cpu")
    found, _ = runner.sliding_window(image, PATCH, 0.5, 0, np.zeros(image.shape, bool))
    assert found.shape == image.shape
    assert not found.any()


@pytest.mark.parametrize("error", ["torch", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"])
def test_with_little_memory_fewer_windows_are_run_at_a_time(image, region, error):
    runner = BatchesOf(Slope(error, fits=1), "cpu", max_batch=4)
    assert runner.sliding_window(image[:4, :6, :8], PATCH, 0.5, 0, None)[1] == []  # one window is enough
    found, told = runner.sliding_window(image, PATCH, 0.5, 0, region)
    assert told == [ONE]
    np.testing.assert_allclose(found, sliding_window(image, runner.predict, PATCH, 0.5, region=region), atol=1e-6)


def test_without_memory_the_cpu_does_it(image, region):
    loaded: list[str] = []

    def load() -> Predict:
        loaded.append("once")
        return DeviceWindows(Slope(), "cpu").predict

    runner = BatchesOf(Slope("torch"), "cpu", on_cpu=load, max_batch=2)
    found, told = runner.sliding_window(image, PATCH, 0.5, 8, region)
    assert told == [ON_CPU]
    wanted = sliding_window(image, DeviceWindows(Slope(), "cpu").predict, PATCH, 0.5, 8, region)
    np.testing.assert_array_equal(found, wanted)
    runner.sliding_window(image, PATCH, 0.5, 8, region)
    assert loaded == ["once"]


def test_without_memory_for_the_image_the_cpu_blends(image, region):
    class NoRoom(DeviceWindows):
        def _blend(self, *_):
            raise torch.OutOfMemoryError

    runner = NoRoom(Slope(), "cpu", max_batch=1)
    found, told = runner.sliding_window(image, PATCH, 0.5, 0, region)
    assert told == [BLENDED]
    np.testing.assert_array_equal(found, sliding_window(image, runner.predict, PATCH, 0.5, region=region))


def test_other_errors_and_the_last_way_s_are_raised(image):
    with pytest.raises(RuntimeError, match="device-side assert"):
        DeviceWindows(Slope("device-side assert"), "cpu").sliding_window(image, PATCH, 0.5, 0, None)
    with pytest.raises(torch.OutOfMemoryError):
        DeviceWindows(Slope("torch"), "cpu").sliding_window(image, PATCH, 0.5, 0, None)


def test_half_precision_that_overflows_is_left_for_good(image):
    image = image * 1e5  # half precision ends at 65,504
    runner = DeviceWindows(Slope(), "cpu", [torch.float16, torch.bfloat16, torch.float32])
    found, told = runner.sliding_window(image, PATCH, 0.5, 0, None)
    assert told == ["The network's values overflowed in half precision: bfloat16 was used."]
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found > 0.5, image > 0)
    assert runner.sliding_window(image, PATCH, 0.5, 0, None)[1] == []


def test_half_precision_is_close_to_single(image):
    half, told = DeviceWindows(Slope(), "cpu", [torch.float16]).sliding_window(image, PATCH, 0.5, 0, None)
    single, _ = DeviceWindows(Slope(), "cpu").sliding_window(image, PATCH, 0.5, 0, None)
    assert told == []
    assert 0 < np.abs(half - single).max() < 0.005


def test_a_network_without_finite_values_is_said(image):
    network = Slope()
    network.scale.data.fill_(np.nan)
    runner = DeviceWindows(network, "cpu", [torch.float16, torch.float32])
    with pytest.raises(ValueError, match="^The network gives values that are not finite$"):
        runner.sliding_window(image, PATCH, 0.5, 0, None)
    with pytest.raises(NotFinite):
        runner.predict(image[None, None, :4, :6, :8])


def test_what_went_otherwise_is_told_of_a_case(thorax: Volume, tiny_bundle: Path, monkeypatch):
    from lnq.pipeline import segment

    def short(self, *_):
        raise torch.OutOfMemoryError

    wanted = segment(thorax, load_model(tiny_bundle, "cpu-torch", threads=1))
    monkeypatch.setattr(DeviceWindows, "_blend", short)
    found = segment(thorax, load_model(tiny_bundle, "cpu-torch", threads=1))
    assert wanted.warnings == ()
    assert found.warnings[-1] == BLENDED
    np.testing.assert_allclose(found.inferred.probability, wanted.inferred.probability, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("mirror", [0, 1, 4])
def test_a_gpu_finds_what_the_cpu_finds(thorax: Volume, tiny_bundle: Path, mirror):
    from lnq.pipeline import infer

    on_gpu = infer(thorax, load_model(tiny_bundle, "cuda", mirror=mirror))
    on_cpu = infer(thorax, load_model(tiny_bundle, "cpu", mirror=mirror))
    assert on_gpu.warnings == ()
    np.testing.assert_allclose(on_gpu.probability, on_cpu.probability, atol=0.02)


@pytest.mark.gpu
def test_a_gpu_of_which_little_is_left_still_does_it(thorax: Volume, tiny_bundle: Path):
    from lnq.pipeline import infer

    model = load_model(tiny_bundle, "cuda")
    wanted = infer(thorax, model)
    torch.cuda.set_per_process_memory_fraction(1e-4)  # some megabytes
    try:
        torch.cuda.empty_cache()
        found = infer(thorax, load_model(tiny_bundle, "cuda"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(found.probability, wanted.probability, atol=0.02)
