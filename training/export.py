"""Make a model bundle from fine-tuning checkpoints: encoder and main decoder, for torch and for the CPU runtime.

    python -m training.export RUN/finetune.pt -o model
    python -m training.export FOLD0/finetune.pt FOLD1/finetune.pt FOLD2/finetune.pt -o model

Several checkpoints become one bundle whose mean probability counts. Nothing is written unless each checkpoint's main
branch, its safetensors file and its ONNX file agree.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from training.bundle.write import export
from training.command import run_command
from training.engine.checkpoint import load_checkpoint
from training.engine.run import read_config


@dataclass(frozen=True)
class Export:
    """Export fine-tuning checkpoints to a model bundle."""

    checkpoints: tyro.conf.Positional[tuple[Path, ...]]  # several, of folds or seeds, make an ensemble
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("model")  # spec.json and weights are replaced
    threshold: float = 0.5  # on the probability; training.evaluate --tune-threshold chooses it
    peak_threshold: float = 0.0  # on the highest probability within a node; likewise
    window_step: float = 0.5  # in patches, the paper's; larger is faster, benchmarks.windows tells what it costs
    mirror: Literal[0, 1, 2, 4, 8] = 0  # flips to average each window over, unless process.py is told otherwise


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = tyro.cli(Export, args=arguments)

    def work() -> bool:
        thresholds = (command.threshold, command.peak_threshold)
        spec = export(command.checkpoints, command.output, *thresholds, command.window_step, command.mirror)
        for path, origin in zip(command.checkpoints, spec.provenance.get("members", [spec.provenance]), strict=True):
            if not origin["complete"]:
                planned = read_config(load_checkpoint(path)).finetune
                print(
                    f"Warning: {path} is of a run stopped at step {origin['steps']} of "
                    f"{planned.epochs * planned.iterations}; the model says so in its provenance",
                    file=sys.stderr,
                )
        print(f"{command.output} holds the model; threshold {spec.threshold}, {spec.postprocess}", file=sys.stderr)
        return True

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
