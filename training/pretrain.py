"""Pre-train both decoders to reconstruct corrupted patches (Model Genesis, METHOD section 4).

python -m training.pretrain --preset compact --data PREPARED -o RUN
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
from training.engine.pretraining import pretrain


@dataclass(frozen=True)
class Pretrain:
    """Pre-train on prepared cases; annotations are not used. Run again, the same command resumes."""

    data: Path  # folder that training.prepare wrote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets pretrain.pt, config.json, metrics and a picture
    selection: SelectionArguments = ALL_FOR_TRAINING
    preset: str = "compact"  # paper, compact or tiny
    config: ConfigArguments = COMPACT


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = parse(Pretrain, arguments)
    return run_command(lambda: pretrain(command.data, command.output, command.config, command.selection))


if __name__ == "__main__":
    sys.exit(main())
