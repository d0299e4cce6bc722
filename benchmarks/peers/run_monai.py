"""MONAI from the lungs' box on: its transforms, its SlidingWindowInferer at half a patch, torch.

Where MONAI leaves a choice, the faster one is taken. Resampling is in float32, though the default is float64, and only
the probability of node is brought back to the box's grid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    Lambdad,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
    Transform,
)

from benchmarks.peers.stages import ContenderJob, ContenderOutcome, Stages
from benchmarks.peers.torch_network import Counter, load_network
from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from lnq.inference.spec import ModelSpec, Normalisation

LABELS = (("L", "R"), ("P", "A"), ("I", "S"))  # as nibabel has them: an axis runs from the first to the second
AXES = "SPL"  # the network's: z to superior, y to posterior, x to left


def run_monai(job: ContenderJob, stages: Stages) -> ContenderOutcome:
    """Read the box, segment it and write the mask."""
    spec, network = load_network(job.bundle)
    counter = Counter(network)
    read = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
    prepare = preparation(spec)
    infer = SlidingWindowInferer(roi_size=spec.patch, sw_batch_size=1, overlap=0.5, mode="gaussian")
    finish, discretise, save = back_to_box(prepare), AsDiscreted("mask", threshold=0.5), writer(job.output)
    stages.ready()
    with torch.inference_mode():
        with stages("read"):
            data = read({"image": str(job.crop)})
        with stages("preprocess"):
            data = prepare(data)
        with stages("network"):
            data["pred"] = infer(data["image"][None], network)[0]  # [2, Z, Y, X]
        with stages("postprocess"):
            data = finish(data)
            data["mask"] = data["pred"]
            data = discretise(data)
        with stages("write"):
            save(data)
    mask = next(job.output.glob("*_mask.nii.gz"))

    def probability() -> Volume:
        array = data["pred"][0].numpy().transpose(2, 1, 0)  # [X, Y, Z] -> [Z, Y, X]
        return read_volume(job.crop).with_array(np.ascontiguousarray(array, np.float32))

    return ContenderOutcome(mask, counter.calls, probability)


def preparation(spec: ModelSpec) -> Compose:
    """Turns the image as it was read into what the network sees, [1, Z, Y, X]."""
    return Compose(
        [
            Orientationd("image", AXES, labels=LABELS),
            Spacingd("image", spec.spacing_mm, mode="bilinear", dtype=np.float32),
            normalisation(spec.normalisation),
        ]
    )


def back_to_box(prepare: Compose) -> Compose:
    """Turns logits on the network's grid, [2, Z, Y, X], into the probability of node on the box's, [1, X, Y, Z]."""
    return Compose(
        [
            Lambdad("pred", lambda logits: logits.softmax(0)[1:]),
            Invertd("pred", prepare, orig_keys="image", nearest_interp=False),
        ]
    )


def writer(folder: Path) -> Transform:
    """Writes the mask as `<box>_mask.nii.gz`."""
    return SaveImaged(
        "mask",
        output_dir=folder,
        output_postfix="mask",
        output_ext=".nii.gz",
        output_dtype=np.uint8,
        resample=False,
        separate_folder=False,
        print_log=False,
    )


def normalisation(rule: Normalisation) -> Transform:
    """The bundle's normalisation as a transform of MONAI's."""
    if rule.kind == "zscore":
        return NormalizeIntensityd("image")
    assert rule.clip_hu is not None  # the specification refuses a bundle without
    low, high = rule.clip_hu
    to = [(value - rule.mean) / rule.std for value in (low, high)]
    return ScaleIntensityRanged("image", a_min=low, a_max=high, b_min=to[0], b_max=to[1], clip=True)
