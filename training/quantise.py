"""Add an 8-bit form of the network to a model bundle, for `process.py --precision int8`.

    python -m training.quantise data/train --model model

Weights and the inputs of convolutions become 8-bit integers (NNCF's post-training quantisation). Their ranges are taken
from windows of some training CTs, without their truth. The first and last convolutions, the norms and the sums stay in
float. docs/speed.md tells what is lost and gained. Needs nncf.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.progress import track

from lnq.inference.spec import ModelSpec
from training.bundle.eight_bit import draw_windows, find_cts, quantise
from training.command import plain_console, run_command


@dataclass(frozen=True)
class Quantise:
    """Add an 8-bit form of the network to a model bundle."""

    sources: tyro.conf.Positional[tuple[Path, ...]]  # folders with <case>-ct.<ext>
    model: Path = Path("model")  # bundle, gets two files more and their check sums in spec.json
    cts: int = 20  # evenly spaced among those of the folders
    windows: int = 12  # of each CT, drawn from those that inference would visit
    seed: int = 0


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(Quantise, args=arguments)

    def work() -> bool:
        spec = ModelSpec.load(command.model)
        generator = np.random.default_rng(command.seed)
        samples: list[np.ndarray] = []
        for path in track(find_cts(command.sources, command.cts), "CTs", console=plain_console()):
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
