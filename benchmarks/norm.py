"""Instance norm forward and back: PyTorch's own beside this project's, at each level of a network.

    python -m benchmarks.norm --preset paper -o docs/results

Each level's first feature map is normalised with leaky ReLU, in turns. Writes norm-PRESET.md and .csv.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from benchmarks.machine import caption
from benchmarks.output import markdown_table, write_csv
from lnq.files import write_text
from lnq.inference.norm import InstanceNorm, channels_last, normalised
from training.config import COMPACT, Config, ConfigArguments, parse
from training.engine.machine import choose_precision, environment

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class NormBenchmark:
    """Time instance norms."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    repeats: int = 20  # after three to warm up
    preset: str = "compact"  # paper, compact or tiny
    config: ConfigArguments = COMPACT


def contenders(channels: int, device: torch.device) -> dict[str, tuple[Norm, bool]]:
    """Ways to normalise with the same weights, and whether the input has its channels last."""
    own, plain = InstanceNorm(channels).to(device), nn.InstanceNorm3d(channels, affine=True).to(device)
    formula: Norm = lambda x: normalised(x, own.weight, own.bias, own.eps)  # noqa: E731
    return {
        "PyTorch, channels first": (plain, False),
        "PyTorch, channels last": (plain, True),
        "ours, channels last": (own, True),
        "formula, channels last": (formula, True),
        "compiled formula, channels last": (torch.compile(formula, dynamic=False), True),
    }


def levels(config: Config) -> list[tuple[int, ...]]:
    """Shape [B, C, Z, Y, X] of the feature maps of each level."""
    size = np.array(config.patch)
    shapes = [(config.finetune.batch, config.network.channels[0], *map(int, size))]
    for channels, stride in zip(config.network.channels[1:], config.network.strides, strict=True):
        size = size // stride
        shapes.append((config.finetune.batch, channels, *map(int, size)))
    return shapes


def once_ms(norm: Norm, x: Tensor, upstream: Tensor) -> float:
    """Milliseconds of one way forward and back."""
    x.grad = None
    if x.is_cuda:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    leaky_relu(norm(x), 0.01).backward(upstream)
    if x.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begun)


def measure(config: Config, repeats: int, device: torch.device, dtype: torch.dtype) -> dict[str, list[float | str]]:
    """Median milliseconds by contender, one number per level; or why it cannot run."""
    found: dict[str, list[float | str]] = {}
    for shape in levels(config):
        runs: dict[str, tuple[Norm, Tensor, Tensor]] = {}
        for name, (norm, last) in contenders(shape[1], device).items():
            x, upstream = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
            if last:
                x, upstream = channels_last(x), channels_last(upstream)
            runs[name] = norm, x.requires_grad_(), upstream
        times: dict[str, list[float]] = {name: [] for name in runs}
        errors: dict[str, str] = {}
        for turn in range(repeats + 3):
            for name in runs.keys() - errors.keys():
                try:
                    ms = once_ms(*runs[name])
                except Exception as error:  # a compiler that is missing, memory
                    errors[name] = (str(error).splitlines() or [type(error).__name__])[0]
                    continue
                if turn >= 3:
                    times[name].append(ms)
        for name in runs:
            found.setdefault(name, []).append(errors.get(name) or float(np.median(times[name])))
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status."""
    command = parse(NormBenchmark, arguments)
    if command.repeats < 1:
        print(f"Error: --repeats must be at least 1, not {command.repeats}", file=sys.stderr)
        return 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision() if command.config.precision == "auto" else command.config.precision
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision, torch.float32)
    found = measure(command.config, command.repeats, device, dtype)
    shapes = [" x ".join(map(str, shape)) for shape in levels(command.config)]
    cells = [
        (name, *(one[:60] if isinstance(one, str) else f"{one:.2f}" for one in row)) for name, row in found.items()
    ]
    head = [f"# Instance norm and leaky ReLU, preset {command.preset}", ""]
    facts = environment()
    head += caption("benchmarks.norm", arguments, {"torch": facts["torch"]}, facts["device"])
    head += [f"Milliseconds forward and back in {dtype}, medians of {command.repeats} in turns:", ""]
    command.output.mkdir(parents=True, exist_ok=True)
    name = f"norm-{command.preset}"
    write_text(command.output / f"{name}.md", "\n".join([*head, *markdown_table(("", *shapes), cells)]))
    write_csv(command.output / f"{name}.csv", ("norm", *shapes), [(key, *row) for key, row in found.items()])
    print("\n".join(markdown_table(("", *shapes), cells)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
