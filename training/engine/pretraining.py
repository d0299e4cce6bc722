"""Pre-training: both decoders learn to reconstruct corrupted patches (Model Genesis, METHOD section 4)."""

from __future__ import annotations

from pathlib import Path

import torch

from training.config import Config
from training.data.dataset import PretrainDataset
from training.data.splits import ALL_FOR_TRAINING, Selection
from training.data.training_set import read_training_set
from training.engine.loop import train
from training.engine.picture import pretraining_look
from training.engine.run import Facts, TrainingRun
from training.method.network import DualBranchNet
from training.method.step import pretraining_step


def pretrain(data: Path, output: Path, config: Config, selection: Selection = ALL_FOR_TRAINING) -> bool:
    """Pre-train on the prepared folder; returns whether the run is complete.

    Raises what `read_training_set` and `train` raise.
    """
    given = read_training_set(data, config, selection, labels=False)
    torch.manual_seed(config.seed)
    network = DualBranchNet(config.network, 1, config.auxiliary_dropout)
    run = TrainingRun("pretrain", config.pretrain, config, output, Facts(given.names))
    look = pretraining_look(given.cases, config, given.normalisation)
    return train(run, network, PretrainDataset(given.cases, config, given.normalisation), pretraining_step, look)
