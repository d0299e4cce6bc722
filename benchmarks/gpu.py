"""The sliding window on a GPU: this project's beside MONAI's with the same weights, from and to arrays in memory.

    python -m benchmarks.gpu --bundles model paper -o docs/results

The CT is a phantom, which is prepared once. The contenders take turns on it in half precision. Then ours segments the
whole CT, which shows the time outside the network. Writes gpu-BUNDLE.md and .csv. Run 0 of a contender warms it up.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.bundles import PAPER, find_bundle
from benchmarks.machine import caption
from benchmarks.output import MIB, markdown_table, write_csv
from benchmarks.peers.torch_network import load_network
from lnq import pipeline
from lnq.errors import BundleError
from lnq.files import write_text
from lnq.image.volume import Volume
from lnq.inference.backends import load_model
from lnq.inference.gpu_windows import DeviceWindows
from lnq.inference.normalise import normalise
from lnq.inference.sliding_window import pad_to, windows
from lnq.inference.spec import ModelSpec
from phantom.make import make_phantom

BATCHES = (1, 4, 8)  # windows at a time
PEER_STEP = 0.5  # the peer's window step, in patches; the peer knows no region


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """What all contenders get."""

    array: np.ndarray  # normalised, float32 [Z, Y, X]
    region: np.ndarray  # where nodes may lie, bool [Z, Y, X]


Contender = Callable[[PreparedImage], np.ndarray]  # returns the probability of node [Z, Y, X]


@dataclass
class GpuTimes:
    """What was measured of one contender."""

    name: str
    windows: int
    seconds: list[float] = field(default_factory=list)  # of each run; the first warms up and does not count
    peak_bytes: int = 0  # highest memory on the GPU, with the network
    difference: float = 0.0  # mean absolute difference of the probability from single precision, where windows lie
    error: str = ""  # why the contender cannot run

    @property
    def median_s(self) -> float:
        """Median of the runs that count."""
        return float(np.median(self.seconds[1:]))


def ours(runner: DeviceWindows, spec: ModelSpec, step: float, use_region: bool) -> Contender:
    """This project's sliding window, `lnq.inference.gpu_windows`. Its warnings are raised as RuntimeError."""

    def run(image: PreparedImage) -> np.ndarray:
        region = image.region if use_region else None
        probability, told = runner.sliding_window(image.array, spec.patch, step, 0, region)
        if told:
            raise RuntimeError(told[-1])
        return probability

    return run


def monai(network: nn.Module, spec: ModelSpec, device: str, precision: torch.dtype, batch: int) -> Contender:
    """MONAI's SlidingWindowInferer, which keeps the image and the result on the device."""
    from monai.inferers import SlidingWindowInferer

    infer = SlidingWindowInferer(spec.patch, batch, PEER_STEP, mode="gaussian", sw_device=device, device=device)

    def run(image: PreparedImage) -> np.ndarray:
        moved = network.to(device, precision)  # moves it in the first run alone
        with torch.inference_mode():
            logits = infer(torch.from_numpy(image.array).to(device, precision)[None, None], moved)
            probability: np.ndarray = torch.softmax(logits[0].float(), 0)[1].cpu().numpy()
            return probability

    return run


def contenders(bundle: Path, device: str, image: PreparedImage) -> list[tuple[GpuTimes, Contender, Contender]]:
    """All contenders, each with a network of its own, and beside each one the same windows in single precision."""
    spec, _ = load_network(bundle)
    precision = torch.float16 if device == "cuda" else torch.float32

    def network() -> nn.Module:
        return load_network(bundle)[1]

    def count(step: float, use_region: bool) -> int:
        _, wanted, _ = pad_to(spec.patch, image.array, image.region if use_region else None)
        return len(list(windows(wanted, spec.patch, step)))

    def own(net: nn.Module, precision: torch.dtype, batch: int, step: float, use_region: bool) -> Contender:
        return ours(DeviceWindows(net, device, (precision,), max_batch=batch), spec, step, use_region)

    step, some, every, last = spec.window_step, count(spec.window_step, True), count(PEER_STEP, False), BATCHES[-1]
    in_layout = network().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    found: list[tuple[GpuTimes, Contender, Contender]] = []
    exact = own(network(), torch.float32, 1, step, True)
    for batch in BATCHES:
        name = f"ours, as shipped, {batch} at a time"
        found.append((GpuTimes(name, some), own(network(), precision, batch, step, True), exact))
    name = f"ours, channels last, {last} at a time"
    found.append((GpuTimes(name, some), own(in_layout, precision, last, step, True), exact))
    exact = own(network(), torch.float32, 1, PEER_STEP, False)
    name = f"ours, the whole crop, step {PEER_STEP}, {last} at a time"
    found.append((GpuTimes(name, every), own(network(), precision, last, PEER_STEP, False), exact))
    exact = monai(network(), spec, device, torch.float32, 1)
    for batch in BATCHES:
        name = f"MONAI, {batch} at a time"
        found.append((GpuTimes(name, every), monai(network(), spec, device, precision, batch), exact))
    return found


def run_once(timing: GpuTimes, contender: Contender, image: PreparedImage) -> np.ndarray | None:
    """Run a contender once more. One that fails is left out from then on: `timing.error` says why, and None returns."""
    if timing.error:
        return None
    held = 0
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
    begun = time.perf_counter()
    try:
        probability = contender(image)
    except (RuntimeError, ValueError) as error:
        timing.error = (str(error).splitlines() or [type(error).__name__])[0]
        return None
    timing.seconds.append(time.perf_counter() - begun)  # the result is on the CPU, so all work is done
    if torch.cuda.is_available() and not timing.peak_bytes:  # the first run counts, for it moves the network too
        timing.peak_bytes = torch.cuda.max_memory_allocated() - held
    return probability


def take_turns(bundle: Path, device: str, image: PreparedImage, repeats: int) -> list[GpuTimes]:
    """Run all contenders in turns. The first turn warms them up, `repeats` more count."""
    found = contenders(bundle, device, image)
    wanted = {exact: exact(image) for exact in dict.fromkeys(exact for _, _, exact in found)}
    for _ in range(repeats + 1):
        for timing, contender, exact in found:
            probability = run_once(timing, contender, image)
            if probability is not None:
                covered = wanted[exact] > 0
                timing.difference = float(np.abs(probability - wanted[exact])[covered].mean())
            said = timing.error or f"{timing.seconds[-1]:.3f} s"
            print(f"{timing.name}: {said}", file=sys.stderr, flush=True)
    return [timing for timing, _, _ in found]


def stage_seconds(bundle: Path, device: str, volume: Volume, repeats: int) -> dict[str, float]:
    """Median seconds by stage of a whole CT, from and to memory, with a model that is loaded and warm."""
    model = load_model(bundle, device)
    runs = [pipeline.segment(volume, model).seconds for _ in range(repeats + 1)][1:]
    return {stage: float(np.median([seconds[stage] for seconds in runs])) for stage in runs[0]}


def compare_windows(bundle: Path, device: str, volume: Volume, repeats: int) -> tuple[list[str], list[GpuTimes]]:
    """Compare all contenders on a CT. Returns lines of Markdown, and what was measured."""
    image = prepare_image(volume, ModelSpec.load(bundle))
    results = take_turns(bundle, device, image, repeats)
    sizes = " x ".join(map(str, volume.shape)), " x ".join(map(str, image.array.shape))
    line = (
        f"A CT of {sizes[0]} voxels, {sizes[1]} as the network sees it. Medians and range of {repeats} runs, in turns:"
    )
    return [line, "", *window_table(results)], results


def stage_lines(seconds: dict[str, float]) -> list[str]:
    """Lines of Markdown from the seconds by stage."""
    each = ", ".join(f"{stage} {value:.2f}" for stage, value in seconds.items())
    return [f"A whole CT from and to memory, ours, seconds by stage: {each}.", ""]


def window_table(results: Sequence[GpuTimes]) -> list[str]:
    """Lines of Markdown: a row per contender."""
    rows = []
    for one in results:
        if one.error:
            rows.append((one.name, f"{one.windows}", one.error, "", ""))
            continue
        times = f"{one.median_s:.3f} ({min(one.seconds[1:]):.3f} to {max(one.seconds[1:]):.3f})"
        peak = f"{one.peak_bytes / MIB:.0f}" if one.peak_bytes else "-"
        rows.append((one.name, f"{one.windows}", times, peak, f"{one.difference:.1e}"))
    return markdown_table(("", "windows", "s", "peak MiB", "difference from single precision"), rows)


def write(folder: Path, name: str, results: Sequence[GpuTimes], lines: Sequence[str]) -> None:
    """Write the Markdown, and a CSV with every run."""
    write_text(folder / f"{name}.md", "\n".join(lines))
    rows = (
        (one.name, one.windows, number, f"{seconds:.4f}", f"{one.peak_bytes / MIB:.0f}")
        for one in results
        for number, seconds in enumerate(one.seconds)
    )
    write_csv(folder / f"{name}.csv", ("contender", "windows", "run", "seconds", "peak_mib"), rows)


def prepare_image(volume: Volume, spec: ModelSpec) -> PreparedImage:
    """The CT as the pipeline hands it to the network."""
    ready = pipeline.prepare(volume, spec.spacing_mm, spec.crop)
    return PreparedImage(normalise(ready.image.array, spec.normalisation), ready.region)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundles", nargs="+", required=True, help=f"folders of bundles, or {PAPER}: its network, random weights"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu-torch"), default="cuda", help="cpu-torch tries the command")
    parser.add_argument("--repeats", type=int, default=5, help="after one to warm up (default 5)")
    parser.add_argument("--seed", type=int, default=9000, help="of the phantom")
    parser.add_argument("--size", type=int, default=512, help="its pixels a side")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, not {options.repeats}")
    device = "cpu" if options.device == "cpu-torch" else options.device
    if device == "cuda" and not torch.cuda.is_available():
        print("Error: there is no GPU that PyTorch can use", file=sys.stderr)
        return 2
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        volume = make_phantom(options.seed, None, options.size).ct
        with tempfile.TemporaryDirectory(prefix="lnq-gpu-") as folder:
            for name in options.bundles:
                bundle = find_bundle(name, Path(folder)).resolve()
                lines, results = compare_windows(bundle, device, volume, options.repeats)
                if name != PAPER:  # what random weights mark is no case to post-process
                    lines += stage_lines(stage_seconds(bundle, options.device, volume, options.repeats))
                head = [f"# The sliding window on a GPU: {bundle.name}", ""]
                device_name = torch.cuda.get_device_name() if device == "cuda" else "torch on the CPU"
                versions = {package: version(package) for package in ("torch", "monai")}
                head += caption("benchmarks.gpu", arguments, versions, device_name)
                write(options.output, f"gpu-{bundle.name}", results, [*head, *lines])
                print("\n".join([*head, *lines]))
    except (ValueError, OSError, ImportError, BundleError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
