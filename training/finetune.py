"""Fine-tune on partial annotations: the full method, or plain cross entropy to compare it with (METHOD section 5).

python -m training.finetune --preset compact --data PREPARED --init RUN/pretrain.pt -o RUN2
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from training.cases import PreparedCase, normalisation_for, read_dataset_info
from training.checkpoint import load_checkpoint
from training.command import run_command
from training.config import COMPACT, Config, ConfigArguments, parse
from training.dataset import FinetuneDataset, Sample
from training.loop import Position, Run, Step, train
from training.losses import combine_terms, cross_entropy, full_supervised_loss, loss_terms, ramp_up
from training.network import DualBranchNet, pass_on_weights
from training.splits import ALL_FOR_TRAINING, Selection, SelectionArguments, training_folders

Method = Literal["dbdmp", "cross_entropy"]


@dataclass(frozen=True)
class Finetune:
    """Fine-tune on prepared cases. Run again, the same command resumes."""

    data: Path  # folder that training.prepare wrote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets finetune.pt, metrics.csv and config.json
    init: Path | None = None  # pretrain.pt, whose weights but the heads are the start; none starts from chance
    method: Method = "dbdmp"  # cross_entropy trains the main branch alone and trusts every background voxel
    selection: SelectionArguments = ALL_FOR_TRAINING
    preset: str = "compact"  # paper, compact or tiny
    config: ConfigArguments = COMPACT


def one_hot(label: Tensor) -> Tensor:
    """uint8 [B, Z, Y, X] of 0 and 1 -> float32 [B, 2, Z, Y, X]."""
    node = (label > 0).float()
    return torch.stack([1.0 - node, node], dim=1)


def theta(seed: int, step: int) -> float:
    """The uniform number of one iteration that mixes the pseudo label; the same in every process and resumed run."""
    return float(np.random.default_rng([seed, 3, step]).random())


def dbdmp_step(config: Config) -> Step:
    """Eq. 10 on partial cases, Dice + CE of both branches on full ones, each weighted by its samples."""
    losses, ramp_length = config.losses, round(config.losses.ramp * config.finetune.epochs)

    def step(model: nn.Module, batch: Sample, position: Position) -> dict[str, Tensor]:
        main, auxiliary = model(batch["image"])
        y, full = one_hot(batch["label"]), batch["full"]
        weight = ramp_up(position.epoch, losses.final, ramp_length)
        total = main.new_zeros((), dtype=torch.float32)
        terms: dict[str, Tensor] = {}
        if not full.all():
            part = slice(None) if not full.any() else ~full
            mix = theta(config.seed, position.step)
            terms = loss_terms(main[part], auxiliary[part], y[part], mix, losses.gamma, losses.alpha, losses.tau)
            total = total + combine_terms(terms, weight) * (~full).float().mean()
        if full.any():
            whole = [full_supervised_loss(branch[full], y[full]) for branch in (main, auxiliary)]
            total = total + (whole[0] + whole[1]) / 2.0 * full.float().mean()
        return {"loss": total, **terms}

    return step


def cross_entropy_step(model: nn.Module, batch: Sample, _position: Position) -> dict[str, Tensor]:
    """The baseline: cross entropy of the main branch alone."""
    main, _ = model(batch["image"], both=False)
    return {"loss": cross_entropy(main, one_hot(batch["label"]))}


def finetune(
    data: Path,
    output: Path,
    config: Config,
    init: Path | None = None,
    method: Method = "dbdmp",
    selection: Selection = ALL_FOR_TRAINING,
) -> bool:
    """Fine-tune on the prepared folder; returns whether the run is complete."""
    cases = [PreparedCase(folder, config.sampling.cache) for folder in training_folders(data, selection)]
    if not any(case.info.node_centres for case in cases):
        raise ValueError(f"No case in {data} has an annotated node")
    info = read_dataset_info(data)
    normalisation = normalisation_for(config.normalisation, info)
    torch.manual_seed(config.seed)
    network = DualBranchNet(config.network)
    facts = {
        "cases": [case.info.case for case in cases],
        "method": method,
        "init": str(init) if init else None,
        "dataset": dataclasses.asdict(info),
        "normalisation": dataclasses.asdict(normalisation),
    }
    if init is not None:
        pretrained = load_checkpoint(init)
        pass_on_weights(pretrained["model"], network)
        facts["pretraining"] = {"steps": pretrained["step"], "cases": len(pretrained["facts"]["cases"])}
    step = dbdmp_step(config) if method == "dbdmp" else cross_entropy_step
    run = Run("finetune", config.finetune, config, output, facts)
    return train(run, network, FinetuneDataset(cases, config, normalisation), step)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = parse(Finetune, arguments)
    return run_command(
        lambda: finetune(command.data, command.output, command.config, command.init, command.method, command.selection)
    )


if __name__ == "__main__":
    sys.exit(main())
