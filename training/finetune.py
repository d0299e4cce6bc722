"""Fine-tune on partial annotations: the full method, or plain cross entropy to compare it with (METHOD section 5).

python -m training.finetune --preset compact --data PREPARED --init RUN/pretrain.pt -o RUN2
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from training.command import run_command
from training.config import COMPACT, ConfigArguments, parse
from training.data.splits import ALL_FOR_TRAINING, SelectionArguments
from training.engine.finetuning import finetune
from training.method.step import OBJECTIVES, Method


@dataclass(frozen=True)
class Finetune:
    """Fine-tune on prepared cases. Run again, the same command resumes."""

    data: Path  # folder that training.prepare wrote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets finetune.pt, config.json, metrics and a picture
    init: Path | None = None  # start from a pretrain.pt (all but its heads) or a bundle's folder; else from chance
    # without_pce: no partial cross entropy, for weights that find nodes already. The others train the main branch
    # alone. cross_entropy trusts every background voxel; known is Dice + cross entropy: with --losses.trust certain on
    # what is known, for cases of which little is unknown; without it for few annotated nodes and --augmentation.copies.
    method: Method = "dbdmp"
    selection: SelectionArguments = ALL_FOR_TRAINING
    preset: str = "compact"  # paper, compact or tiny
    config: ConfigArguments = COMPACT


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = parse(Finetune, arguments)
    objective = OBJECTIVES[command.method]
    return run_command(
        lambda: finetune(command.data, command.output, command.config, command.init, objective, command.selection)
    )


if __name__ == "__main__":
    sys.exit(main())
