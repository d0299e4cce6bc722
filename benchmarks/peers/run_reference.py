"""What a chain of the usual parts spends around the network: a crop at full resolution, and nnU-Net's resampling.

No network runs, and no mask is written. The logits that are resampled back are zeros, which take as long as others.
"""

from __future__ import annotations

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, resample_data_or_seg_to_shape
from scipy import ndimage

from benchmarks.peers.stages import ContenderJob, ContenderOutcome, Stages
from lnq.image.itk import read_volume
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.inference.normalise import normalise
from lnq.inference.spec import ModelSpec

AIR_HU = -320.0  # air lies below
SMALLEST_LUNG = 0.1  # a smaller part of the largest piece of air is no lung


def run_reference(job: ContenderJob, stages: Stages) -> ContenderOutcome:
    """Read the CT, crop it, resample the crop to the network's grid and two channels of logits back."""
    spec = ModelSpec.load(job.bundle)
    stages.ready()
    with stages("read"):
        volume = reorient_to_lps(read_volume(job.ct))[0]
    with stages("crop"):
        cropped = volume.crop(lung_box(volume, spec.crop.margin_mm))
    spacings = (cropped.spacing_mm, spec.spacing_mm)
    resampling = {"order_z": 0, "force_separate_z": None}
    with stages("preprocess"):
        image = normalise(cropped.array, spec.normalisation)[None]  # [1, Z, Y, X]
        shape = compute_new_shape(image.shape[1:], *spacings)
        image = resample_data_or_seg_to_shape(image, shape, *spacings, order=3, **resampling)
    logits = np.zeros((2, *image.shape[1:]), np.float32)
    with stages("postprocess"):
        logits = resample_data_or_seg_to_shape(logits, cropped.shape, *spacings[::-1], order=1, **resampling)
        logits.argmax(0)
    return ContenderOutcome(None, 0, None)


def lung_box(volume: Volume, margin_mm: float) -> tuple[slice, slice, slice]:
    """The box, with a margin, of the largest pieces of air that touch no side of the slices. Without any, all."""
    labels, count = ndimage.label(volume.array < AIR_HU)
    sides = np.concatenate([labels[:, i].ravel() for i in (0, -1)] + [labels[:, :, i].ravel() for i in (0, -1)])
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[np.unique(sides)] = sizes[0] = 0
    lungs = np.isin(labels, np.flatnonzero((sizes > 0) & (sizes >= SMALLEST_LUNG * sizes.max())))
    if not lungs.any():
        return slice(None), slice(None), slice(None)
    margins = [round(margin_mm / spacing) for spacing in volume.spacing_mm]
    z, y, x = (
        slice(max(0, found.start - margin), found.stop + margin)
        for found, margin in zip(ndimage.find_objects(lungs.astype(np.uint8))[0], margins, strict=True)
    )
    return z, y, x
