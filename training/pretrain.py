"""Pre-train both decoders to reconstruct corrupted patches (Model Genesis, METHOD section 4).

python -m training.pretrain --preset compact --data PREPARED -o RUN
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor, nn

from training.command import run_command
from training.config import COMPACT, Config, ConfigArguments, parse
from training.data.dataset import PretrainDataset, Sample
from training.data.prepared import PreparedCase, normalisation_for, read_dataset_info
from training.data.splits import ALL_FOR_TRAINING, Selection, SelectionArguments, training_folders
from training.engine.loop import Position, train
from training.engine.picture import pretraining_look
from training.engine.run import Run
from training.method.losses import reconstruction_loss
from training.method.network import DualBranchNet


@dataclass(frozen=True)
class Pretrain:
    """Pre-train on prepared cases; annotations are not used. Run again, the same command resumes."""

    data: Path  # folder that training.prepare wrote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets pretrain.pt, config.json, metrics and a picture
    selection: SelectionArguments = ALL_FOR_TRAINING
    preset: str = "compact"  # paper, compact or tiny
    config: ConfigArguments = COMPACT


def reconstruction_step(model: nn.Module, batch: Sample, _position: Position) -> dict[str, Tensor]:
    """MSE of both branches against the clean patch (Eq. 1)."""
    main, auxiliary = model(batch["image"])
    terms = {
        "mse_main": reconstruction_loss(main, batch["clean"]),
        "mse_aux": reconstruction_loss(auxiliary, batch["clean"]),
    }
    return {"loss": terms["mse_main"] + terms["mse_aux"], **terms}


def pretrain(data: Path, output: Path, config: Config, selection: Selection = ALL_FOR_TRAINING) -> bool:
    """Pre-train on the prepared folder; returns whether the run is complete."""
    cases = [PreparedCase(folder, config.sampling.cache) for folder in training_folders(data, selection)]
    normalisation = normalisation_for(config.normalisation, read_dataset_info(data))
    torch.manual_seed(config.seed)
    network = DualBranchNet(config.network, 1, config.auxiliary_dropout)
    run = Run("pretrain", config.pretrain, config, output, {"cases": [c.info.case for c in cases]})
    look = pretraining_look(cases, config, normalisation)
    return train(run, network, PretrainDataset(cases, config, normalisation), reconstruction_step, look)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = parse(Pretrain, arguments)
    return run_command(lambda: pretrain(command.data, command.output, command.config, command.selection))


if __name__ == "__main__":
    sys.exit(main())
