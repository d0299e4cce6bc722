"""Add an 8-bit form of the network to a model bundle, for `process.py --precision int8`.

    python -m training.quantise data/train --model model

Weights, and what goes into the convolutions, become 8-bit integers (NNCF's post-training quantisation). Their ranges
are taken from windows of CTs, which need no truth: some of those that were trained on. The first and last convolutions,
the norms and the sums stay in float. docs/speed.md tells what is lost and won. Needs nncf.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from lnq.files import file_sha256
from lnq.image.itk import read_volume
from lnq.image.names import EXTENSIONS, stem
from lnq.inference.backends import import_openvino
from lnq.inference.normalise import normalise
from lnq.inference.sliding_window import sliding_window
from lnq.inference.spec import INT8_NAME, INT8_WEIGHTS_NAME, ONNX_NAME, ModelSpec
from lnq.pipeline import prepare
from training.command import run_command
from training.export import onnx_runner

FLOAT_OPERATIONS = ("MVN", "Add", "Multiply")  # instance norms, and the sums of the residual branches


@dataclass(frozen=True)
class Quantise:
    """Add an 8-bit form of the network to a model bundle."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # folders with <case>-ct.<ext>
    model: Path = Path("model")  # bundle, gets two files more and their check sums in spec.json
    cts: int = 20  # evenly spaced among those of the folders
    windows: int = 12  # of each CT, drawn from those that inference would visit
    seed: int = 0


def find_cts(sources: Sequence[Path], count: int) -> list[Path]:
    """At most `count` CTs, evenly spaced by name. Raises ValueError for no folder, and for folders without CTs."""
    found: list[Path] = []
    for folder in sources:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder")
        images = [path for path in folder.iterdir() if path.name.lower().endswith(EXTENSIONS)]
        found += sorted(path for path in images if stem(path).endswith("-ct"))
    if not found:
        raise ValueError(f"No CT named <case>-ct in {', '.join(map(str, sources))}")
    return [found[i] for i in np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]


def draw_windows(path: Path, spec: ModelSpec, count: int, generator: np.random.Generator) -> list[np.ndarray]:
    """At most `count` of the windows of a CT that inference visits, as it normalises them: float32 [1, 1, Z, Y, X]."""
    visited: list[np.ndarray] = []

    def record(patches: np.ndarray) -> np.ndarray:
        visited.append(patches.astype(np.float32))
        return np.zeros((len(patches), spec.network.classes, *spec.patch), np.float32)

    ready = prepare(read_volume(path), spec.spacing_mm, spec.crop)
    image = normalise(ready.image.array, spec.normalisation)
    region = ready.region if spec.crop.use_region else None
    sliding_window(image, record, spec.patch, spec.window_step, region=region)
    drawn = generator.choice(len(visited), min(count, len(visited)), replace=False)
    return [visited[index] for index in sorted(drawn)]


def quantise(bundle: Path, samples: Sequence[np.ndarray]) -> ModelSpec:
    """Write the 8-bit network beside the bundle's ONNX file, from windows float32 [1, C, Z, Y, X].

    Raises BundleError for a bundle that cannot be read, and ValueError where the new network gives no numbers.
    """
    spec = ModelSpec.load(bundle)
    openvino = import_openvino()
    import nncf

    network = openvino.Core().read_model(spec.verified_file(bundle, ONNX_NAME))
    network.reshape([1, spec.network.in_channels, *spec.patch])
    kept = nncf.IgnoredScope(names=end_convolutions(network), types=list(FLOAT_OPERATIONS), validate=False)
    small = nncf.quantize(
        network,
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,  # activations not symmetric about 0
        subset_size=len(samples),
        ignored_scope=kept,
    )
    with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=f".{bundle.name}.") as folder:
        part = Path(folder)
        openvino.save_model(small, part / INT8_NAME, compress_to_fp16=False)
        check_numbers(onnx_runner(part / INT8_NAME)(samples[0]))
        sums = {name: file_sha256(part / name) for name in (INT8_NAME, INT8_WEIGHTS_NAME)}
        spec = dataclasses.replace(spec, sha256=spec.sha256 | sums)
        for name in sums:
            (part / name).chmod(0o644)
            os.replace(part / name, bundle / name)
    spec.save(bundle)  # last: it names the others' sums
    return spec


def end_convolutions(network: Any) -> list[str]:
    """Names of the convolutions that read the image, and of the one that makes the logits."""
    found = [node for node in network.get_ordered_ops() if node.get_type_name() == "Convolution"]
    first = [node for node in found if node.input_value(0).get_node().get_type_name() == "Parameter"]
    return [node.get_friendly_name() for node in (*first, found[-1])]


def check_numbers(logits: np.ndarray) -> None:
    """Raise ValueError where a logit is not finite."""
    if not np.isfinite(logits).all():
        raise ValueError("The 8-bit network gives no finite numbers: nothing was written")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(Quantise, args=arguments)

    def work() -> bool:
        spec = ModelSpec.load(command.model)
        generator = np.random.default_rng(command.seed)
        samples: list[np.ndarray] = []
        for path in track(find_cts(command.sources, command.cts), "CTs", console=Console(stderr=True)):
            samples += draw_windows(path, spec, command.windows, generator)
        quantise(command.model, samples)
        print(
            f"{command.model} holds an 8-bit network too, from {len(samples)} windows; score it before it is used: "
            f"python -m training.evaluate DIR --model {command.model} --precision int8 -o RESULTS",
            file=sys.stderr,
        )
        return True

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
