"""Load a model bundle into a network that runs: OpenVINO on CPUs, torch on GPUs. Either is imported when used."""

import dataclasses
import functools
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lnq.errors import BundleError
from lnq.inference.sliding_window import Predict, sliding_window
from lnq.inference.spec import INT8_NAME, INT8_WEIGHTS_NAME, ONNX_NAME, WEIGHTS_NAME, ModelSpec

DEVICES = ("auto", "cpu", "cuda", "cpu-torch")  # the last runs the GPU's code on a CPU
PRECISIONS = ("auto", "f32", "int8")  # of OpenVINO; on a GPU torch chooses its own precision
_VNNI = {"avx512_vnni", "avx_vnni"}  # instructions that multiply and add integers of 8 bits
_MAX_THREADS = 64  # the challenge's platform allows 256 processes and threads in all
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")  # without these files there is no GPU, and torch need not be imported


SlidingWindow = Callable[
    [np.ndarray, tuple[int, int, int], float, int, np.ndarray | None], tuple[np.ndarray, list[str]]
]
"""(image, patch, step, mirror, region) -> probability, and warnings for the user."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network ready to run. `predict`: float32 [B, 1, Z, Y, X] -> logits float32 [B, 2, Z, Y, X]."""

    spec: ModelSpec
    predict: Predict
    backend: str  # "openvino" or "torch"
    device: str  # "cpu", or the GPU's name
    bundle: Path
    precision: str = "f32"  # or "int8"
    own_sliding_window: SlidingWindow | None = None  # where the device also cuts and blends the windows

    def probability(self, image: np.ndarray, region: np.ndarray | None = None) -> tuple[np.ndarray, list[str]]:
        """Run the network in overlapping windows over a normalised image, float32 [Z, Y, X].

        `region`: bool [Z, Y, X], by default the whole image. Returns the probability of node, float32 [Z, Y, X], and
        warnings for the user about how it was computed.
        """
        spec = self.spec
        if self.own_sliding_window is not None:
            return self.own_sliding_window(image, spec.patch, spec.window_step, spec.mirror, region)
        return sliding_window(image, self.predict, spec.patch, spec.window_step, spec.mirror, region), []


def load_model(
    bundle: Path | str,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "f32",
    mirror: int | None = None,
) -> Model:
    """Load a bundle. Device `auto` takes a GPU where torch finds one, else the CPU.

    `threads`: CPU threads, by default as many as this process may use. `precision`: int8 runs the bundle's 8-bit
    network, on a CPU only; auto does so where the bundle has one and the CPU has instructions for it. `mirror`:
    replaces the specification's. Raises BundleError for a bundle that is missing, altered, too new, or without the
    8-bit network asked for. Raises ValueError for a device that is missing or lacks the precision, and for a mirroring
    that is not one of MIRRORINGS.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if device not in DEVICES:
        raise ValueError(f"Device must be one of {', '.join(DEVICES)}, not {device!r}")
    bundle = Path(bundle)
    spec = ModelSpec.load(bundle)
    spec.hash_of(bundle, WEIGHTS_NAME)  # results name it, whichever form is run
    if mirror is not None:
        spec = dataclasses.replace(spec, mirror=mirror)
    threads = threads or min(available_cpus(), _MAX_THREADS)
    if device == "cuda" and not _has_gpu():
        raise ValueError("A GPU was asked for, but there is none that PyTorch can use")
    if precision == "int8":
        if device not in ("auto", "cpu") or find_spec("openvino") is None:
            raise ValueError("Precision int8 is for the CPU, with OpenVINO installed")
        return _load_openvino(bundle, spec, threads, precision)
    if device == "cuda" or (device == "auto" and _has_gpu()):
        return _load_torch(bundle, spec, "cuda", threads)
    if device == "cpu-torch" or find_spec("openvino") is None:
        return _load_torch(bundle, spec, "cpu", threads)
    return _load_openvino(bundle, spec, threads, "int8" if precision == "auto" and _pays_in_8_bits(spec) else "f32")


def _pays_in_8_bits(spec: ModelSpec, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a bundle has an 8-bit network, and this machine's CPU instructions for one. Only Linux tells those."""
    if INT8_NAME not in spec.sha256:
        return False
    try:
        return not _VNNI.isdisjoint(cpuinfo.read_text().split())
    except OSError:
        return False


def available_cpus() -> int:
    """How many CPUs this process may use, by its affinity and its container's quota (cgroup v2 or v1)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _cgroup_cpus())))


def _cgroup_cpus(root: Path = Path("/sys/fs/cgroup")) -> float:
    try:
        if (root / "cpu.max").is_file():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no quota: the file is missing or says "max"
        return math.inf


def _has_gpu() -> bool:
    if find_spec("torch") is None or not any(Path(driver).exists() for driver in _GPU_DRIVERS):
        return False
    import torch

    return torch.cuda.is_available()


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry. Hiding that package makes OpenVINO use a stub that sends nothing."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's `Core`: one for all networks of this process, kept until it ends.

    Each `Core` gives the process a stack for signals, and puts the one before back when it is deleted. If the older of
    two went first, the newer would put back a stack that is gone, and the next signal would end the process.
    """
    return import_openvino().Core()


def _load_openvino(bundle: Path, spec: ModelSpec, threads: int, precision: str = "f32") -> Model:
    files = [spec.verified_bytes(bundle, ONNX_NAME)] if precision == "f32" else _int8_files(bundle, spec)
    core = openvino_core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # bf16 changes results, and is far slower on CPUs that lack it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,  # all threads on one window
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        network = core.read_model(*files)  # from memory: a network cannot name further files
        network.reshape([1, spec.network.in_channels, *spec.patch])  # fixed sizes: less memory, faster kernels
        request = core.compile_model(network, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        name = ONNX_NAME if precision == "f32" else INT8_NAME
        raise BundleError(f"{bundle / name} is not a network that OpenVINO can run") from error

    def predict(patches: np.ndarray) -> np.ndarray:
        outputs = []
        for patch in patches:
            request.infer([patch[None]])
            outputs.append(request.get_output_tensor().data.copy())  # [1, C, Z, Y, X]
        return np.concatenate(outputs)

    return Model(spec, predict, "openvino", "cpu", bundle, precision)


def _int8_files(bundle: Path, spec: ModelSpec) -> list[bytes]:
    """The 8-bit network and its weights, verified."""
    if INT8_NAME not in spec.sha256:
        raise BundleError(
            f"The model bundle in {bundle} has no 8-bit network: leave out --precision int8, or add one with "
            "training.quantise"
        )
    return [spec.verified_bytes(bundle, name) for name in (INT8_NAME, INT8_WEIGHTS_NAME)]


def _load_torch(bundle: Path, spec: ModelSpec, device: str, threads: int) -> Model:
    weights = spec.verified_bytes(bundle, WEIGHTS_NAME)
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from lnq.inference.gpu_windows import DeviceWindows
    from lnq.inference.network import SegmentationNet

    network = SegmentationNet(spec.network)
    try:
        network.load_state_dict(load(weights))
    except (RuntimeError, ValueError, SafetensorError) as error:
        sentence = f"The weights of {bundle / WEIGHTS_NAME} do not fit the network of its specification"
        raise BundleError(sentence) from error
    if device == "cpu":
        torch.set_num_threads(threads)
        runner = DeviceWindows(network, device)
        return Model(spec, runner.predict, "torch", "cpu", bundle, own_sliding_window=runner.sliding_window)
    # bfloat16 has single precision's range, but is fast only on GPUs that compute with it natively.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    precisions = [torch.float16, *([torch.bfloat16] if native else []), torch.float32]

    def on_cpu() -> Predict:
        return load_model(bundle, "cpu", threads).predict

    runner = DeviceWindows(network, device, precisions, on_cpu)
    return Model(
        spec, runner.predict, "torch", torch.cuda.get_device_name(), bundle, own_sliding_window=runner.sliding_window
    )
