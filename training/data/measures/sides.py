"""How the left of a chest differs from its right, in numbers that can be compared between patients.

The chest's box is divided into cells. For each pair of cells that mirror each other, the number is the mean HU of the
left one less that of the right one. Heart and aorta are denser than lung, the liver stands higher than the stomach. In
a mirrored CT all of these numbers change their sign.
"""

from __future__ import annotations

import numpy as np

from lnq.image.resample import axis_weights

CELLS = (8, 8, 8)  # z, y, x: of 3 to 4 cm, about as large as what differs
_CLIP_HU = (-800.0, 100.0)  # lung to soft tissue: bone and contrast medium would outweigh all else


def sides(image: np.ndarray) -> tuple[int, ...]:
    """Left less right of each pair of cells of a chest (HU, [Z, Y, X] in LPS axes, cropped to both lungs), in HU."""
    means = np.clip(image, *_CLIP_HU).astype(np.float32)
    for axis, (size, count) in enumerate(zip(image.shape, CELLS, strict=True)):
        scale = size / count
        means = np.moveaxis(np.tensordot(axis_weights(count, size, scale, (scale - 1) / 2), means, (1, axis)), 0, axis)
    half = CELLS[2] // 2
    difference = means[:, :, half:] - means[:, :, half - 1 :: -1]  # x increases to the patient's left
    return tuple(int(value) for value in np.round(difference).ravel())
