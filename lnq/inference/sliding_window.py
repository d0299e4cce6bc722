"""Run a network, any callable on patches, on overlapping windows and blend its outputs (METHOD section 7)."""

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from lnq.inference.spec import check_mirror

Predict = Callable[[np.ndarray], np.ndarray]  # float32 [B, 1, Z, Y, X] -> logits [B, 2, Z, Y, X]
Flip = tuple[bool, bool, bool]  # whether z, y and x run backwards

_FLIPS: list[Flip] = list(product((False, True), (False, True), (False, True)))
_TURNS: dict[int, list[Flip]] = {
    1: [_FLIPS[0]],
    2: [_FLIPS[0], _FLIPS[-1]],  # as different as possible: all three axes
    4: [flip for flip in _FLIPS if sum(flip) % 2 == 0],  # any two of them differ in two axes
    8: _FLIPS,
}


class Window(NamedTuple):
    """Where a window lies, and its number along each axis."""

    place: tuple[slice, slice, slice]
    number: tuple[int, int, int]

    def flips(self, mirror: int) -> list[Flip]:
        """The flip of each run of this window; `mirror` is one of `MIRRORINGS`.

        Neighbours begin with different flips. So a voxel in several windows is seen in several ways, even where each
        window runs once.
        """
        if mirror == 0:
            return [_FLIPS[0]]
        odd = [number % 2 == 1 for number in self.number]
        return [(z != odd[0], y != odd[1], x != odd[2]) for z, y, x in _TURNS[mirror]]


def sliding_window(
    image: np.ndarray,
    predict: Predict,
    patch: tuple[int, int, int],
    step: float = 0.5,
    mirror: int = 0,
    region: np.ndarray | None = None,
) -> np.ndarray:
    """Foreground probability, float32 [Z, Y, X], of a normalised image [Z, Y, X].

    Windows are evenly spaced, at most `step` patches apart. Each window is averaged over `mirror` flips, one of
    `MIRRORINGS`. The logits are blended with Gaussian weights, then go through the softmax. With `region` (bool
    [Z, Y, X]) windows cover only what it needs. Voxels outside all windows have probability 0. An image smaller than
    the patch is padded with its lowest value. Raises ValueError for another mirroring, and for a network without
    exactly two classes.
    """
    check_mirror(mirror)
    padded, wanted, inner = pad_to(patch, image, region)
    evidence = np.zeros(padded.shape, np.float32)  # logit of node minus logit of background, enough for the softmax
    weight = np.zeros(padded.shape, np.float32)
    gaussian = gaussian_weights(patch)
    for window in windows(wanted, patch, step):
        place = window.place
        evidence[place] += gaussian * _log_odds(predict, padded[place], window.flips(mirror))
        weight[place] += gaussian
    covered = weight > 0
    np.divide(evidence, weight, out=evidence, where=covered)
    expit(evidence, out=evidence)
    evidence[~covered] = 0
    return evidence[inner]


def windows(region: np.ndarray, patch: tuple[int, int, int], step: float = 0.5) -> Iterator[Window]:
    """Windows that cover all voxels of a region (bool [Z, Y, X], no axis shorter than the patch), in z, y, x order.

    A layer of windows spans in y only what the region needs in its slices. A row spans in x only what it needs there.
    """
    some = np.logical_or.reduce
    for i, z in enumerate(window_starts(some(region, axis=(1, 2)), patch[0], step)):
        layer = some(region[z : z + patch[0]], axis=0)  # [Y, X]
        for j, y in enumerate(window_starts(some(layer, axis=1), patch[1], step)):
            row = some(layer[y : y + patch[1]], axis=0)  # [X]
            for k, x in enumerate(window_starts(row, patch[2], step)):
                if row[x : x + patch[2]].any():
                    place = slice(z, z + patch[0]), slice(y, y + patch[1]), slice(x, x + patch[2])
                    yield Window(place, (i, j, k))


def window_starts(wanted: np.ndarray, patch: int, step: float) -> list[int]:
    """The fewest starts of evenly spaced windows, at most `step` patches apart, that cover an axis's wanted voxels.

    `wanted`: bool, no shorter than the patch. Where one window is enough, it is centred on the wanted voxels.
    """
    found = np.flatnonzero(wanted)
    if not found.size:
        return []
    first, end = int(found[0]), int(found[-1]) + 1
    size = max(end - first, patch)
    first = min(max(0, (first + end - size) // 2), len(wanted) - size)
    count = math.ceil((size - patch) / (patch * step)) + 1
    return [first + round(s) for s in np.linspace(0, size - patch, count)]


def gaussian_weights(patch: tuple[int, int, int]) -> np.ndarray:
    """Weights of shape `patch`, float32: a Gaussian, 1 at patch // 2, deviation patch / 8, never below 1e-11."""
    axes = [np.exp(-0.5 * ((np.arange(p) - p // 2) / (p / 8)) ** 2) for p in patch]
    z, y, x = np.ix_(*axes)
    return (z * y * x).astype(np.float32)


def _log_odds(predict: Predict, pixels: np.ndarray, flips: list[Flip]) -> np.ndarray:
    """Pixels [Z, Y, X] -> logit of node minus logit of background, float32 [Z, Y, X], averaged over flips."""
    total = np.zeros(pixels.shape, np.float32)
    for flip in flips:
        turn = tuple(slice(None, None, -1 if backwards else 1) for backwards in flip)
        logits = predict(np.ascontiguousarray(pixels[turn])[None, None])  # [1, 2, Z, Y, X]
        if logits.shape[1] != 2:
            raise ValueError(f"The network must give 2 classes, background and node, not {logits.shape[1]}")
        total += (logits[0, 1] - logits[0, 0])[turn]
    return total / len(flips)


def pad_to(
    patch: tuple[int, int, int], image: np.ndarray, region: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[slice, ...]]:
    """Pad an image [Z, Y, X] on both sides to the patch's size, along the axes where it is smaller.

    Returns the padded image, the region on its grid (bool, by default all of the image), and the image's box within it.
    """
    missing = [max(0, p - n) for n, p in zip(image.shape, patch, strict=True)]
    before = [m // 2 for m in missing]
    inner = tuple(slice(b, b + n) for b, n in zip(before, image.shape, strict=True))
    widths = [(b, m - b) for b, m in zip(before, missing, strict=True)]
    padded = np.pad(image, widths, constant_values=image.min()) if any(missing) else image
    wanted = np.zeros(padded.shape, bool)
    wanted[inner] = True if region is None else region
    return padded, wanted, inner
