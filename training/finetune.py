"""Fine-tune on partial annotations: the full method, or plain cross entropy to compare it with (METHOD section 5).

python -m training.finetune --preset compact --data PREPARED --init RUN/pretrain.pt -o RUN2
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from safetensors.torch import load_file
from torch import Tensor, nn

from lnq.inference.spec import WEIGHTS_NAME, ModelSpec
from training.command import run_command
from training.config import COMPACT, Config, ConfigArguments, parse
from training.data.dataset import FinetuneDataset, Sample
from training.data.prepared import PreparedCase, normalisation_for, read_dataset_info
from training.data.splits import ALL_FOR_TRAINING, Selection, SelectionArguments, training_folders
from training.engine.checkpoint import load_checkpoint
from training.engine.distributed import share_of_batch
from training.engine.loop import Position, Step, train
from training.engine.picture import finetuning_look
from training.engine.run import Run
from training.method.losses import combine_terms, cross_entropy, full_supervised_loss, loss_terms, one_hot, ramp_up
from training.method.network import DualBranchNet, copy_main_branch, pass_on_weights

Method = Literal["dbdmp", "cross_entropy"]


@dataclass(frozen=True)
class Finetune:
    """Fine-tune on prepared cases. Run again, the same command resumes."""

    data: Path  # folder that training.prepare wrote
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]  # gets finetune.pt, config.json, metrics and a picture
    init: Path | None = None  # start from a pretrain.pt (all but its heads) or a bundle's folder; else from chance
    method: Method = "dbdmp"  # cross_entropy trains the main branch alone and trusts every background voxel
    selection: SelectionArguments = ALL_FOR_TRAINING
    preset: str = "compact"  # paper, compact or tiny
    config: ConfigArguments = COMPACT


def theta(seed: int, step: int) -> float:
    """The uniform number of one iteration that mixes the pseudo label; the same in every process and resumed run."""
    return float(np.random.default_rng([seed, 3, step]).random())


def dbdmp_step(config: Config) -> Step:
    """Eq. 10 on partial cases, Dice + CE of both branches on full ones, each weighted by its samples.

    Of several processes all compute both parts where the whole batch has both, also those that hold no such sample:
    the sums of the losses run over all of them.
    """
    losses, ramp_length = config.losses, round(config.losses.ramp * config.finetune.epochs)

    def step(model: nn.Module, batch: Sample, position: Position) -> dict[str, Tensor]:
        main, auxiliary = model(batch["image"])
        y, full = one_hot(batch["label"]), batch["full"]
        weight = ramp_up(position.epoch, losses.final, ramp_length)
        total = main.new_zeros((), dtype=torch.float32)
        terms: dict[str, Tensor] = {}
        share = share_of_batch(full)
        if share < 1.0:
            part = slice(None) if share == 0.0 else ~full
            mix = theta(config.seed, position.step)
            terms = loss_terms(main[part], auxiliary[part], y[part], mix, losses.gamma, losses.alpha, losses.tau)
            total = total + combine_terms(terms, weight) * (1.0 - share)
        if share > 0.0:
            whole = [full_supervised_loss(branch[full], y[full]) for branch in (main, auxiliary)]
            terms |= {"full_main": whole[0], "full_aux": whole[1]}
            total = total + (whole[0] + whole[1]) / 2.0 * share
        return {"loss": total, **terms}

    return step


def cross_entropy_step(_config: Config) -> Step:
    """The baseline: cross entropy of the main branch alone."""

    def step(model: nn.Module, batch: Sample, _position: Position) -> dict[str, Tensor]:
        main, _ = model(batch["image"], both=False)
        return {"loss": cross_entropy(main, one_hot(batch["label"]))}

    return step


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned: the step, and whether the auxiliary branch takes part in it."""

    name: str  # for the record
    step: Callable[[Config], Step]
    both: bool = True


RECIPES: dict[Method, Recipe] = {
    "dbdmp": Recipe("dbdmp", dbdmp_step),
    "cross_entropy": Recipe("cross_entropy", cross_entropy_step, both=False),
}


def finetune(
    data: Path,
    output: Path,
    config: Config,
    init: Path | None = None,
    recipe: Recipe = RECIPES["dbdmp"],
    selection: Selection = ALL_FOR_TRAINING,
) -> bool:
    """Fine-tune on the prepared folder; returns whether the run is complete."""
    cases = [PreparedCase(folder, config.sampling.cache) for folder in training_folders(data, selection)]
    if not any(case.info.node_centres for case in cases):
        raise ValueError(f"No case in {data} has an annotated node")
    info = read_dataset_info(data)
    normalisation = normalisation_for(config.normalisation, info)
    torch.manual_seed(config.seed)
    network = DualBranchNet(config.network, auxiliary_dropout=config.auxiliary_dropout)
    network.auxiliary.requires_grad_(recipe.both)
    facts = {
        "cases": [case.info.case for case in cases],
        "method": recipe.name,
        "init": str(init) if init else None,
        "dataset": dataclasses.asdict(info),
        "normalisation": dataclasses.asdict(normalisation),
    }
    if init is not None:
        facts["pretraining"] = load_start(init, network)
    run = Run("finetune", config.finetune, config, output, facts)
    look = finetuning_look(cases, config, normalisation, recipe.both)
    return train(run, network, FinetuneDataset(cases, config, normalisation), recipe.step(config), look)


def load_start(init: Path, network: DualBranchNet) -> dict[str, Any]:
    """Load the weights that fine-tuning starts from; returns where they come from, for the model's provenance.

    `init` is a checkpoint of pre-training, all of which passes on but the heads, or the folder of a model bundle, whose
    decoder becomes both branches. Raises ValueError or BundleError where it is neither, or of another network.
    """
    if not init.is_dir():
        pretrained = load_checkpoint(init)
        pass_on_weights(pretrained["model"], network)
        return {"steps": pretrained["step"], "cases": len(pretrained["facts"]["cases"])}
    spec = ModelSpec.load(init)
    copy_main_branch(load_file(spec.verified_file(init, WEIGHTS_NAME)), network)
    return {"bundle": spec.sha256[WEIGHTS_NAME], **{key: spec.provenance.get(key) for key in ("steps", "data")}}


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    command = parse(Finetune, arguments)
    recipe = RECIPES[command.method]
    return run_command(
        lambda: finetune(command.data, command.output, command.config, command.init, recipe, command.selection)
    )


if __name__ == "__main__":
    sys.exit(main())
