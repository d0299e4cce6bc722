"""How near the network comes to the machine's arithmetic, as operations per second beside those of a matrix product.

    python -m benchmarks.arithmetic --bundle model -o docs/results

A multiplication and an addition of a convolution or a transposed convolution are two operations. Norms and activations
are not counted, though they take time. A window in OpenVINO takes turns with float32 matrix products by torch and by
NumPy. The faster product counts. Writes arithmetic-BUNDLE.csv and .md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bundles import add_arguments, find_bundle
from benchmarks.machine import caption
from benchmarks.output import markdown_table, write_csv
from benchmarks.peers.contenders import versions
from lnq.errors import BundleError
from lnq.files import write_text
from lnq.inference.backends import available_cpus, load_model
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import ModelSpec

_REST_S = 0.5  # a library's idle threads stay busy for up to 0.2 s and would take CPUs from the next library


def count_operations(spec: ModelSpec) -> int:
    """Floating-point operations of one window. The window is not computed."""
    with torch.device("meta"):
        network = SegmentationNet(spec.network).eval()
        window = torch.empty(1, spec.network.in_channels, *spec.patch)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(window)
    return int(counter.get_total_flops())


def seconds_of_call(work: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call by name. They take turns, each after a rest and a call that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            time.sleep(_REST_S)
            work()
            times[name].append(seconds_of_call(work))
    return times


def matrix_products(side: int) -> dict[str, Callable[[], object]]:
    """Products of float32 matrices of `side` rows and columns, by library."""
    left, right = (np.random.default_rng(seed).random((side, side), np.float32) for seed in (0, 1))
    out = np.empty_like(left)
    tensors = [torch.from_numpy(array) for array in (left, right, out)]
    return {
        "torch": lambda: torch.mm(tensors[0], tensors[1], out=tensors[2]),
        "numpy": lambda: np.matmul(left, right, out=out),
    }


def rates(operations: int, side: int, times: dict[str, list[float]]) -> list[str]:
    """Lines of Markdown: operations per second of a window and of matrix products, `side` wide, from their seconds."""
    median = {name: float(np.median(values)) for name, values in times.items()}
    product = 2 * side**3
    best = min((name for name in median if name != "window"), key=lambda name: median[name])
    counts = {name: operations if name == "window" else product for name in median}
    rate = {name: counts[name] / median[name] for name in median}
    cells = (
        (
            "a window" if name == "window" else f"matrix product {side}, {name}",
            f"{counts[name] / 1e9:.1f} G",
            f"{median[name]:.4f}",
            f"{rate[name] / 1e9:.1f} GFLOP/s",
        )
        for name in median
    )
    share = rate["window"] / rate[best]
    return [
        *markdown_table(("", "operations", "median s", "rate"), cells),
        f"The network reaches {share:.2f} of the matrix product's rate by {best}.",
        "",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arithmetic", description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--side", type=int, default=4096, help="of the matrices")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(available_cpus())
    try:
        with tempfile.TemporaryDirectory(prefix="lnq-arithmetic-") as folder:
            bundle = find_bundle(options.bundle, Path(folder)).resolve()
            model = load_model(bundle, "cpu")
    except BundleError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    shape = (1, model.spec.network.in_channels, *model.spec.patch)
    window = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    times = in_turns(
        {"window": lambda: model.networks[0].predict(window)} | matrix_products(options.side), options.repeats
    )
    name = f"arithmetic-{bundle.name}"
    rows = ([f"{value:.5f}" for value in row] for row in zip(*times.values(), strict=True))
    write_csv(options.output / f"{name}.csv", [f"{key}_s" for key in times], rows)
    lines = ["# The network's arithmetic", "", *caption("benchmarks.arithmetic", arguments, versions())]
    text = "\n".join([*lines, *rates(count_operations(model.spec), options.side, times)])
    write_text(options.output / f"{name}.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
