"""Make the specification of a checkpoint's model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lnq.inference.spec import ModelSpec, PostProcessing
from training.config import Config
from training.data.dataset_info import DatasetInfo, refuse_other_crop
from training.engine.checkpoint import Checkpoint, load_checkpoint
from training.engine.run import read_config, read_facts

_ALIKE = ("network", "patch", "spacing_mm", "normalisation", "crop", "postprocess")  # fields in which members agree
HU_WIDENING = 0.25  # fraction of the percentile range, on each side
MAX_MIN_VOLUME_MM3 = 175.0  # the paper's: a data set of large nodes must not make it delete small real nodes


def postprocessing_for(config: Config, info: DatasetInfo) -> PostProcessing:
    """The rules of METHOD section 7, with the paper's numbers or those of the training labels."""
    if config.paper_postprocess:
        return PostProcessing()
    low, high = info.clip_hu
    widening = HU_WIDENING * (high - low)
    return PostProcessing(
        hu_range=(low - widening, high + widening),
        min_volume_mm3=min(info.smallest_node_mm3, MAX_MIN_VOLUME_MM3),
    )


@dataclass(frozen=True, eq=False)
class BundleMember:
    """A network of a bundle that is made: its checkpoint, its specification without check sums, and its weights."""

    path: Path
    spec: ModelSpec
    weights: dict[str, Tensor]  # of both branches
    digests: dict[str, str]  # by which the runs of an ensemble's members can be told apart


def read_member(path: Path) -> BundleMember:
    """Read a checkpoint. Raises what `load_checkpoint` and `bundle_spec` raise."""
    checkpoint = load_checkpoint(path)
    if checkpoint["stage"] != "finetune":
        raise ValueError(f"{path} is a checkpoint of {checkpoint['stage']}: export needs one of finetune")
    settings = {"config": checkpoint["config"], "cases": sorted(checkpoint["facts"]["cases"])}
    digests = {f"{name}_sha256": _digest(value) for name, value in settings.items()}
    return BundleMember(path, bundle_spec(checkpoint), checkpoint["average"] or checkpoint["model"], digests)


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def joint_spec(members: Sequence[BundleMember]) -> ModelSpec:
    """The specification of all members together. That of a single one is its own.

    The provenance of several lists each one's. Raises ValueError where there is none, where two differ in anything but
    their provenance, and where two are the same network.
    """
    if not members:
        raise ValueError("A bundle needs a checkpoint, and none was given")
    first, *others = members
    for other in others:
        names = [name for name in _ALIKE if getattr(first.spec, name) != getattr(other.spec, name)]
        if names:
            raise ValueError(f"{other.path} differs from {first.path} in {', '.join(names)}: members must be alike")
    for one, other in combinations(members, 2):
        if all(torch.equal(value, other.weights[name]) for name, value in one.weights.items()):
            raise ValueError(f"Two members are the same network: {one.path} and {other.path}")
    if not others:
        return first.spec
    origins = [member.spec.provenance | member.digests for member in members]
    return dataclasses.replace(first.spec, provenance={"members": origins})


def bundle_spec(checkpoint: Checkpoint) -> ModelSpec:
    """The specification of the checkpoint's model, without the files' check sums, and with the default thresholds.

    Raises ValueError where the checkpoint is not of a fine-tuning, or where its data were not cropped as its
    configuration says.
    """
    config, facts = read_config(checkpoint), read_facts(checkpoint)
    info, normalisation = facts.dataset, facts.normalisation
    if info is None or normalisation is None:
        raise ValueError(f"A checkpoint of {checkpoint['stage']} was given: a bundle is made from one of finetune")
    refuse_other_crop("The checkpoint's data set", info.crop, "its configuration", config.crop)
    provenance: dict[str, Any] = {
        "method": facts.method,
        "steps": checkpoint["step"],
        "complete": checkpoint["complete"],
        "pretraining": facts.pretraining,
        "seed": config.seed,
        "data": {
            "used_cases": len(facts.cases),  # of the prepared cases, which the next entries describe
            "cases": info.cases,
            "partial_cases": info.partial_cases,
            "annotated_nodes": info.annotated_nodes,
            **info.provenance,
        },
        "averaged_weights": checkpoint["average"] is not None,
        "environment": checkpoint.get("environment"),  # that of the training; older checkpoints do not tell
    }
    return ModelSpec(
        network=config.network,
        patch=config.patch,
        spacing_mm=config.spacing_mm,
        normalisation=normalisation,
        crop=info.crop,
        postprocess=postprocessing_for(config, info),
        provenance=provenance,
    )
