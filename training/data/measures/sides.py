"""How the left of a chest differs from its right, in numbers that can be compared between patients.

The chest's box is divided into cells. For each pair of cells that mirror each other, the number is the mean HU of the
left one less that of the right one. Heart and aorta are denser than lung, the liver stands higher than the stomach. In
a mirrored CT all of these numbers change their sign.
"""

from __future__ import annotations

import numpy as np

from lnq.anatomy.region import midline_column
from lnq.image.resample import axis_weights
from lnq.image.volume import Volume

CELLS = (8, 8, 8)  # z, y, x: of 3 to 4 cm, about as large as what differs
_CLIP_HU = (-800.0, 100.0)  # lung to soft tissue: bone and contrast medium would outweigh all else
_HEART_PART = 1 / 3  # the lowest part of the region holds the heart
_SOFT_HU = 0.0


def sides(image: np.ndarray) -> tuple[int, ...]:
    """Left less right of each pair of cells of a chest (HU, [Z, Y, X] in LPS axes, cropped to both lungs), in HU."""
    means = np.clip(image, *_CLIP_HU).astype(np.float32)
    for axis, (size, count) in enumerate(zip(image.shape, CELLS, strict=True)):
        scale = size / count
        means = np.moveaxis(np.tensordot(axis_weights(count, size, scale, (scale - 1) / 2), means, (1, axis)), 0, axis)
    half = CELLS[2] // 2
    difference = means[:, :, half:] - means[:, :, half - 1 :: -1]  # x increases to the patient's left
    return tuple(int(value) for value in np.round(difference).ravel())


def heart_left_mm(image: Volume, region: np.ndarray) -> float | None:
    """How far the middle of the lower mediastinum lies to the left of the midline of the upper one.

    `image`: HU in LPS axes; `region`: bool, the mediastinal region on its grid. None where there is no soft tissue.
    """
    used = np.flatnonzero(region.any(axis=(1, 2)))
    if not used.size:
        return None
    low = slice(used[0], used[0] + int((used[-1] - used[0] + 1) * _HEART_PART) + 1)
    soft = region[low] & (image.array[low] > _SOFT_HU)
    if not soft.any():
        return None
    column = float(np.average(np.arange(region.shape[2]), weights=soft.sum(axis=(0, 1))))
    return round((column - midline_column(region)) * image.spacing_mm[2], 1)
