"""GPUs that are not there, that PyTorch cannot use, and that it can, with a stand-in for PyTorch's CUDA."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lnq.inference import gpu
from lnq.inference.gpu import Gpu, find_gpu, has_code_for

CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU128 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
GPUS = {"V100": (7, 0), "T4": (7, 5), "A100": (8, 0), "A10G": (8, 6), "L4": (8, 9), "H100": (9, 0)}


@pytest.mark.parametrize("name", GPUS)
def test_the_platforms_gpus_are_covered_by_a_build_for_cuda_12_6_and_all_but_the_v100_by_12_8(name: str) -> None:
    assert has_code_for(GPUS[name], CU126)
    assert has_code_for(GPUS[name], CU128) == (name != "V100")


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 6), ["sm_80"], True),  # of the same generation, a later revision
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),  # another generation
        ((9, 0), ["compute_80"], True),  # the driver compiles it
        ((7, 5), ["compute_80"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120"], True),
        ((10, 3), ["sm_100a"], False),  # of that revision alone
        ((8, 0), ["gfx90a", ""], False),
        ((8, 0), [], False),
    ],
)
def test_code_runs_where_the_programming_guide_says(
    capability: tuple[int, int], architectures: list[str], runs: bool
) -> None:
    assert has_code_for(capability, architectures) == runs


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has a GPU's driver."""
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(gpu, "DRIVERS", (str(tmp_path / "nvidiactl"),))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """PyTorch's CUDA with a V100, built for it."""
    torch = pytest.importorskip("torch")
    stand_in = SimpleNamespace(
        is_available=lambda: True,
        get_device_capability=lambda: (7, 0),
        get_arch_list=lambda: CU126,
        get_device_name=lambda: "Tesla V100-SXM2-16GB",
    )
    monkeypatch.setattr(torch, "cuda", stand_in)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return stand_in


def test_without_a_driver_there_is_no_gpu_and_nothing_to_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "DRIVERS", (str(tmp_path / "nvidiactl"),))
    assert find_gpu() == Gpu(False)


def test_a_gpu_that_pytorch_can_use(driver: None, cuda: SimpleNamespace) -> None:
    assert find_gpu() == Gpu(True)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_is_hidden_is_not_there(
    driver: None, cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert find_gpu() == Gpu(False)


def test_a_gpu_that_others_fill_is_a_problem_and_no_error(
    driver: None, cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")

    monkeypatch.setattr(torch, "zeros", full)
    found = find_gpu()
    assert not found.usable and found.problem is not None
    assert found.problem.startswith("PyTorch cannot use it: CUDA error: out of memory") and "\n" not in found.problem


def test_without_pytorch_a_gpu_is_of_no_use(driver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda _: None)
    assert find_gpu() == Gpu(False, "PyTorch is not installed")


def test_pytorchs_cpu_build_is_named(driver: None, cuda: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    assert find_gpu() == Gpu(False, "this PyTorch is a build for CPUs")


def warn(text: str) -> Callable[[], bool]:
    def is_available() -> bool:
        warnings.warn(text, stacklevel=2)
        return False

    return is_available


def test_a_driver_that_is_too_old_is_named_in_pytorchs_words(driver: None, cuda: SimpleNamespace) -> None:
    cuda.is_available = warn(
        "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your\n"
        "GPU driver by downloading and installing a new version."
    )
    reason = "The NVIDIA driver on your system is too old (found version 11040)"
    assert find_gpu() == Gpu(False, f"CUDA 12.6 cannot use it: {reason}")


def test_a_driver_that_says_nothing(driver: None, cuda: SimpleNamespace) -> None:
    cuda.is_available = lambda: False
    assert find_gpu() == Gpu(False, "CUDA 12.6 cannot use it: its driver does not answer, or has no device")


def test_a_build_without_code_for_the_gpu(driver: None, cuda: SimpleNamespace) -> None:
    cuda.get_arch_list = lambda: CU128
    reason = "this PyTorch has no code for Tesla V100-SXM2-16GB, compute capability 7.0"
    assert find_gpu() == Gpu(False, reason)
