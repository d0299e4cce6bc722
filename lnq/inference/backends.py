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
from lnq.inference.gpu import Gpu, find_gpu
from lnq.inference.sliding_window import Predict, sliding_window
from lnq.inference.spec import INT8_NAME, INT8_WEIGHTS_NAME, ONNX_NAME, WEIGHTS_NAME, ModelSpec, member_file

DEVICES = ("auto", "cpu", "cuda", "cpu-torch")  # the last runs the GPU's code on a CPU
PRECISIONS = ("auto", "f32", "int8")  # of OpenVINO; on a GPU torch chooses its own precision
_VNNI = {"avx512_vnni", "avx_vnni"}  # instructions that multiply and add integers of 8 bits
_MAX_THREADS = 64  # the challenge's platform allows 256 processes and threads in all


SlidingWindow = Callable[
    [np.ndarray, tuple[int, int, int], float, int, np.ndarray | None], tuple[np.ndarray, list[str]]
]
"""(image, patch, step, mirror, region) -> probability, and warnings for the user."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network ready to run. `predict`: float32 [B, 1, Z, Y, X] -> logits float32 [B, 2, Z, Y, X]."""

    predict: Predict
    own_sliding_window: SlidingWindow | None = None  # where the device also cuts and blends the windows

    def probability(
        self, image: np.ndarray, spec: ModelSpec, region: np.ndarray | None
    ) -> tuple[np.ndarray, list[str]]:
        """The probability of node, float32 [Z, Y, X], and warnings for the user about how it was computed."""
        if self.own_sliding_window is not None:
            return self.own_sliding_window(image, spec.patch, spec.window_step, spec.mirror, region)
        return sliding_window(image, self.predict, spec.patch, spec.window_step, spec.mirror, region), []


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The probability of node in an image. Arrays [Z, Y, X] lie on its grid."""

    mean: np.ndarray  # of all members, float32
    members: tuple[np.ndarray, ...]  # each member's own, float16; none where there is one member
    warnings: tuple[str, ...]  # for the user, about how it was computed


@dataclass(frozen=True, eq=False)
class Model:
    """A bundle's networks, its members, ready to run."""

    spec: ModelSpec
    networks: tuple[Network, ...]
    backend: str  # "openvino" or "torch"
    device: str  # "cpu", or the GPU's name
    bundle: Path
    precision: str = "f32"  # or "int8"
    note: str | None = None  # for the user: why a GPU that is there is not used

    @property
    def runs_on(self) -> str:
        """Backend, device and precision, for people."""
        return f"{self.backend} on {self.device}{', int8' if self.precision == 'int8' else ''}"

    def probabilities(self, image: np.ndarray, region: np.ndarray | None = None) -> Probabilities:
        """Run one network after another in overlapping windows over a normalised image, float32 [Z, Y, X].

        `region`: bool [Z, Y, X], by default the whole image.
        """
        first, *others = self.networks
        mean, told = first.probability(image, self.spec, region)
        members = [mean.astype(np.float16)] if others else []
        for network in others:
            own, also_told = network.probability(image, self.spec, region)
            members.append(own.astype(np.float16))
            mean += own
            told = [*told, *also_told]
        if others:
            mean /= len(self.networks)
        return Probabilities(mean, tuple(members), tuple(dict.fromkeys(told)))


def load_model(
    bundle: Path | str,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "f32",
    mirror: int | None = None,
    members: int | None = None,
) -> Model:
    """Load a bundle. Device `auto` takes a GPU where torch can use one, else the CPU, and `Model.note` says why.

    `threads`: CPU threads, by default as many as this process may use. `precision`: int8 runs the bundle's 8-bit
    networks, on a CPU only; auto does so where the bundle has them and the CPU has instructions for them. `mirror`:
    replaces the specification's. `members`: how many of the bundle's networks are loaded, from the first on, by default
    all. Raises BundleError for a bundle that is missing, altered, too new, or without the 8-bit networks asked for.
    Raises ValueError for a device that is missing or lacks the precision, for a mirroring that is not one of
    MIRRORINGS, and for more members than there are.
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
    if members is not None:
        spec = spec.first_members(members)
    threads = threads or min(available_cpus(), _MAX_THREADS)
    if precision == "int8":
        if device not in ("auto", "cpu") or find_spec("openvino") is None:
            raise ValueError("Precision int8 is for the CPU, with OpenVINO installed")
        return _load_openvino(bundle, spec, threads, precision)
    gpu = _wanted_gpu(device)
    if gpu.usable:
        return _load_torch(bundle, spec, "cuda", threads)
    if device == "cpu-torch" or find_spec("openvino") is None:
        model = _load_torch(bundle, spec, "cpu", threads)
    else:
        in_8_bits = precision == "auto" and _pays_in_8_bits(spec)
        model = _load_openvino(bundle, spec, threads, "int8" if in_8_bits else "f32")
    note = f"A GPU is there, but {gpu.problem}: running on the CPU" if gpu.problem else None
    return dataclasses.replace(model, note=note)


def _wanted_gpu(device: str) -> Gpu:
    """The GPU, as far as a device asks for one. Raises ValueError where it asks for no less and there is none."""
    gpu = find_gpu() if device in ("auto", "cuda") else Gpu(False)
    if device == "cuda" and not gpu.usable:
        reason = f": {gpu.problem}" if gpu.problem else ""
        raise ValueError(f"A GPU was asked for, but there is none that PyTorch can use{reason}")
    return gpu


def _pays_in_8_bits(spec: ModelSpec, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a bundle has 8-bit networks, and this machine's CPU instructions for them. Only Linux tells those."""
    if not _has_8_bits(spec):
        return False
    try:
        return not _VNNI.isdisjoint(cpuinfo.read_text().split())
    except OSError:
        return False


def _has_8_bits(spec: ModelSpec) -> bool:
    """Whether every member has an 8-bit network."""
    return all(name in spec.sha256 for name in spec.files(INT8_NAME))


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
    if precision == "int8" and not _has_8_bits(spec):
        raise BundleError(
            f"The model bundle in {bundle} has no 8-bit network: leave out --precision int8, or add one with "
            "training.quantise"
        )
    kinds = (ONNX_NAME,) if precision == "f32" else (INT8_NAME, INT8_WEIGHTS_NAME)
    runner = _OpenVino(bundle, spec, kinds, threads)
    numbers = range(spec.members, 0, -1)
    for number in numbers:  # All are checked before the first case, and the first one stays ready.
        runner.make_ready(number)
    networks = tuple(Network(functools.partial(runner.predict, number)) for number in reversed(numbers))
    return Model(spec, networks, "openvino", "cpu", bundle, precision)


class _OpenVino:
    """A bundle's networks, of which one is ready to run at a time: the paper's takes 0.75 GB.

    `kinds`: of the files that a network is read from. Members count from 1.
    """

    def __init__(self, bundle: Path, spec: ModelSpec, kinds: tuple[str, ...], threads: int) -> None:
        self._bundle = bundle
        self._spec = spec
        self._kinds = kinds
        self._threads = threads
        self.ready = 0  # the member that is ready to run; 0: none
        self._request: Any = None

    def make_ready(self, member: int) -> None:
        """Read, check and compile a member's network, in the place of another's."""
        if member == self.ready:
            return
        names = [member_file(kind, member) for kind in self._kinds]
        files = [self._spec.verified_bytes(self._bundle, name) for name in names]
        self.ready, self._request = 0, None  # frees the other's memory first
        core = openvino_core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # bf16 changes results, and is far slower on CPUs that lack it
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,  # all threads on one window
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            network = core.read_model(*files)  # from memory: a network cannot name further files
            shape = [1, self._spec.network.in_channels, *self._spec.patch]
            network.reshape(shape)  # fixed sizes: less memory, faster kernels
            self._request = core.compile_model(network, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise BundleError(f"{self._bundle / names[0]} is not a network that OpenVINO can run") from error
        self.ready = member

    def predict(self, member: int, patches: np.ndarray) -> np.ndarray:
        """Float32 [B, 1, Z, Y, X] -> a member's logits float32 [B, 2, Z, Y, X]."""
        self.make_ready(member)
        outputs = []
        for patch in patches:
            self._request.infer([patch[None]])
            outputs.append(self._request.get_output_tensor().data.copy())  # [1, C, Z, Y, X]
        return np.concatenate(outputs)


def _load_torch(bundle: Path, spec: ModelSpec, device: str, threads: int) -> Model:
    import torch

    if device == "cpu":
        torch.set_num_threads(threads)
    on_cpu = functools.cache(lambda: load_model(bundle, "cpu", threads, members=spec.members))
    numbers = range(1, spec.members + 1)
    networks = [_torch_network(bundle, spec, number, device, on_cpu) for number in numbers]
    return Model(spec, tuple(networks), "torch", "cpu" if device == "cpu" else torch.cuda.get_device_name(), bundle)


def _torch_network(bundle: Path, spec: ModelSpec, member: int, device: str, on_cpu: Callable[[], Model]) -> Network:
    """A member's network, which cuts and blends its windows on the device. Members count from 1."""
    name = member_file(WEIGHTS_NAME, member)
    weights = spec.verified_bytes(bundle, name)
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from lnq.inference.gpu_windows import DeviceWindows
    from lnq.inference.network import SegmentationNet

    network = SegmentationNet(spec.network)
    try:
        network.load_state_dict(load(weights))
    except (RuntimeError, ValueError, SafetensorError) as error:
        sentence = f"The weights of {bundle / name} do not fit the network of its specification"
        raise BundleError(sentence) from error
    if device == "cpu":
        runner = DeviceWindows(network, device)
        return Network(runner.predict, runner.sliding_window)
    # bfloat16 has single precision's range, but is fast only on GPUs that compute with it natively.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    precisions = [torch.float16, *([torch.bfloat16] if native else []), torch.float32]
    runner = DeviceWindows(network, device, precisions, lambda: on_cpu().networks[member - 1].predict)
    return Network(runner.predict, runner.sliding_window)
