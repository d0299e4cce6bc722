"""Make the specification of a checkpoint's model."""

from __future__ import annotations

from typing import Any

from lnq.inference.spec import ModelSpec, PostProcessing
from training.config import Config
from training.data.dataset_info import DatasetInfo, refuse_other_crop
from training.engine.checkpoint import Checkpoint
from training.engine.machine import environment
from training.engine.run import read_config, read_facts

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


def bundle_spec(checkpoint: Checkpoint, threshold: float, peak_threshold: float) -> ModelSpec:
    """The specification of the checkpoint's model, without the files' check sums.

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
        "environment": environment(),
    }
    return ModelSpec(
        network=config.network,
        patch=config.patch,
        spacing_mm=config.spacing_mm,
        normalisation=normalisation,
        threshold=threshold,
        peak_threshold=peak_threshold,
        crop=info.crop,
        postprocess=postprocessing_for(config, info),
        provenance=provenance,
    )
