"""Make the 8-bit form of a bundle's network, with ranges taken from windows of CTs."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lnq.files import file_sha256, replace_files
from lnq.image.itk import read_volume
from lnq.image.names import CT, EXTENSIONS, stem
from lnq.inference.backends import import_openvino, openvino_core
from lnq.inference.normalise import normalise
from lnq.inference.sliding_window import sliding_window
from lnq.inference.spec import INT8_NAME, INT8_WEIGHTS_NAME, ONNX_NAME, SPEC_NAME, ModelSpec
from lnq.pipeline import prepare
from training.bundle.write import onnx_runner

FLOAT_OPERATIONS = ("MVN", "Add", "Multiply")  # instance norms, and the sums of the residual branches


def find_cts(sources: Sequence[Path], count: int) -> list[Path]:
    """At most `count` CTs, evenly spaced by name. Raises ValueError where a folder is missing, or none holds a CT."""
    found: list[Path] = []
    for folder in sources:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder")
        images = [path for path in folder.iterdir() if path.name.lower().endswith(EXTENSIONS)]
        found += sorted(path for path in images if stem(path).endswith(CT))
    if not found:
        raise ValueError(f"No CT named <case>-ct in {', '.join(map(str, sources))}")
    return [found[i] for i in np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]


def draw_windows(path: Path, spec: ModelSpec, count: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Draw at most `count` of the windows of a CT that inference visits, normalised: float32 [1, 1, Z, Y, X] each."""
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
    """Write each member's 8-bit network beside its ONNX file. `samples` are windows, float32 [1, C, Z, Y, X].

    Raises BundleError where the bundle cannot be read, and ValueError where a new network's logits are not finite.
    """
    spec = ModelSpec.load(bundle)
    with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=f".{bundle.name}.") as folder:
        part = Path(folder)
        for full, small in zip(spec.files(ONNX_NAME), spec.files(INT8_NAME), strict=True):
            _write_small(spec, spec.verified_bytes(bundle, full), samples, part / small)
        names = [*spec.files(INT8_NAME), *spec.files(INT8_WEIGHTS_NAME)]
        sums = {name: file_sha256(part / name) for name in names}
        spec = dataclasses.replace(spec, sha256=spec.sha256 | sums)
        for name in sums:
            (part / name).chmod(0o644)
        spec.save(part)
        replace_files(part, bundle, (*sums, SPEC_NAME))  # the last holds the others' sums
    return spec


def _write_small(spec: ModelSpec, onnx: bytes, samples: Sequence[np.ndarray], path: Path) -> None:
    """Write the 8-bit form of an ONNX network to a path that ends in .xml, and its weights beside it."""
    openvino = import_openvino()
    import nncf

    network = openvino_core().read_model(onnx)
    network.reshape([1, spec.network.in_channels, *spec.patch])
    kept = nncf.IgnoredScope(names=end_convolutions(network), types=list(FLOAT_OPERATIONS), validate=False)
    small = nncf.quantize(
        network,
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,  # activations not symmetric about 0
        subset_size=len(samples),
        ignored_scope=kept,
    )
    openvino.save_model(small, path, compress_to_fp16=False)
    check_numbers(onnx_runner(path)(samples[0]))


def end_convolutions(network: Any) -> list[str]:
    """Names of the convolutions that read the image, and of the one that makes the logits."""
    found = [node for node in network.get_ordered_ops() if node.get_type_name() == "Convolution"]
    first = [node for node in found if node.input_value(0).get_node().get_type_name() == "Parameter"]
    return [node.get_friendly_name() for node in (*first, found[-1])]


def check_numbers(logits: np.ndarray) -> None:
    """Raise ValueError where a logit is not finite."""
    if not np.isfinite(logits).all():
        raise ValueError("The 8-bit network gives no finite numbers: nothing was written")
