"""This project's own pipeline from the whole CT on, with its crop, its region, its window step and OpenVINO."""

from __future__ import annotations

from unittest.mock import patch

from benchmarks.peers.stages import ContenderJob, ContenderOutcome, Stages
from benchmarks.visits import counted
from lnq import pipeline
from lnq.anatomy.crop import find_crop
from lnq.archive.open import read_ct
from lnq.image.itk import write_volume
from lnq.inference.backends import Model, load_model


def run_lnq(job: ContenderJob, stages: Stages) -> ContenderOutcome:
    """Read and check the CT, segment it and write the mask."""
    model = load_model(job.bundle, "cpu")
    stages.ready()
    counting, visited = counted(model)
    with stages("read"):
        volume = read_ct(job.ct)
    with (
        patch.object(pipeline, "find_crop", stages.timed("crop", find_crop)),
        patch.object(Model, "probabilities", stages.timed("network", Model.probabilities)),
    ):
        result = pipeline.segment(volume, counting)
    own = result.seconds
    stages.seconds["preprocess"] = own["prepare"] - stages.seconds["crop"]
    stages.seconds["postprocess"] = own["postprocess"]
    mask = job.output / "mask.mha"
    with stages("write"):
        write_volume(result.mask, mask)
    return ContenderOutcome(mask, visited(), lambda: result.ready.cropped.with_array(result.inferred.probability))
