"""Fine-tuning on annotations, most of them partial. It starts from chance, a pre-training or a model bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from lnq.inference.spec import WEIGHTS_NAME, CropSpec, ModelSpec, Normalisation
from training.config import Config
from training.data.dataset import FinetuneDataset
from training.data.dataset_info import refuse_other_crop
from training.data.splits import ALL_FOR_TRAINING, Selection
from training.data.training_set import TrainingSet, read_training_set
from training.engine.active import Job
from training.engine.checkpoint import load_checkpoint
from training.engine.loop import train, train_together
from training.engine.picture import finetuning_look
from training.engine.run import Facts, TrainingRun, read_facts
from training.method.network import DualBranchNet, copy_main_branch, pass_on_weights
from training.method.step import DBDMP, Objective, Step, finetuning_step

StepMaker = Callable[[Objective, Config], Step]


@dataclass(frozen=True)
class Wanted:
    """A fine-tuning to do: what it minimises, how, from where, and the folder that it writes to."""

    output: Path
    config: Config
    init: Path | None = None
    objective: Objective = DBDMP


def finetune(
    data: Path,
    output: Path,
    config: Config,
    init: Path | None = None,
    objective: Objective = DBDMP,
    selection: Selection = ALL_FOR_TRAINING,
    make_step: StepMaker = finetuning_step,
    normalisation: Normalisation | None = None,
) -> bool:
    """Fine-tune on the prepared folder; returns whether the run is complete.

    `normalisation` stands in for that of the data set, which a few cases tell badly. `make_step` makes the objective's
    step, or a wrapper that observes it, which takes every step as it comes. Raises ValueError where no case has an
    annotated node, and what `Objective.refuse_unread`, `read_training_set`, `FinetuneDataset`, `load_start` and `train`
    raise.
    """
    objective.refuse_unread(config.losses)
    if make_step is not finetuning_step:
        config = dataclasses.replace(config, graph=False)
    given = _read(data, config, selection)
    if normalisation is not None:
        given = dataclasses.replace(given, normalisation=normalisation)
    job = _job(Wanted(output, config, init, objective), given, make_step)
    dataset = FinetuneDataset(given.cases, config, given.normalisation)
    return train(job.run, job.network, dataset, job.step, job.look)


def finetune_together(
    data: Path, wanted: Sequence[Wanted], selection: Selection = ALL_FOR_TRAINING
) -> list[bool | Exception]:
    """Fine-tune several times in this process, all on the same samples. Returns what became of each.

    Raises ValueError where samples would differ, and what `finetune` raises before its first step.
    """
    first = wanted[0].config
    for one in wanted:
        one.objective.refuse_unread(one.config.losses)
    if any(samples_of(one.config) != samples_of(first) for one in wanted):
        raise ValueError("Runs that are trained together must agree in all that their samples depend on")
    given = _read(data, first, selection)
    jobs = [_job(one, given, finetuning_step) for one in wanted]
    return train_together(jobs, FinetuneDataset(given.cases, first, given.normalisation))


def samples_of(config: Config) -> tuple[object, ...]:
    """The settings that samples depend on."""
    return (
        config.seed, config.patch, config.spacing_mm, config.crop, config.normalisation, config.sampling,
        config.augmentation, config.finetune.batch, config.losses.trust, config.losses.small_node_mm,
    )  # fmt: skip


def _read(data: Path, config: Config, selection: Selection) -> TrainingSet:
    given = read_training_set(data, config, selection)
    if not any(case.info.node_centres for case in given.cases):
        raise ValueError(f"No case in {data} has an annotated node")
    return given


def _job(wanted: Wanted, given: TrainingSet, make_step: StepMaker) -> Job:
    config, objective, init = wanted.config, wanted.objective, wanted.init
    torch.manual_seed(config.seed)
    network = DualBranchNet(config.network, auxiliary_dropout=config.auxiliary_dropout)
    network.auxiliary.requires_grad_(objective.both)
    facts = Facts(
        cases=given.names,
        method=objective.name,
        init=str(init) if init else None,
        dataset=given.info,
        normalisation=given.normalisation,
        pretraining=load_start(init, network, given.info.crop) if init is not None else None,
    )
    run = TrainingRun("finetune", config.finetune, config, wanted.output, facts)
    look = finetuning_look(given.cases, config, given.normalisation, objective.both)
    return Job(run, network, make_step(objective, config), look)


def load_start(init: Path, network: DualBranchNet, crop: CropSpec) -> dict[str, Any]:
    """Load the weights that fine-tuning starts from; returns where they come from, for the model's provenance.

    `init` is a checkpoint of pre-training, of which all but the heads is used, or the folder of a model bundle, whose
    decoder becomes both branches. Raises ValueError or BundleError where it is neither or has another network, and
    where the bundle crops CTs differently from `crop`, the data's.
    """
    if not init.is_dir():
        pretrained = load_checkpoint(init)
        pass_on_weights(pretrained["model"], network)
        return {"steps": pretrained["step"], "cases": len(read_facts(pretrained).cases)}
    spec = ModelSpec.load_single(init)
    refuse_other_crop(f"The bundle in {init}", spec.crop, "the data", crop)
    copy_main_branch(load(spec.verified_bytes(init, WEIGHTS_NAME)), network)
    return {"bundle": spec.sha256[WEIGHTS_NAME], **{key: spec.provenance.get(key) for key in ("steps", "data")}}
