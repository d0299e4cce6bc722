"""Model Genesis: corrupt a normalised patch whose clean copy the network has to reconstruct (METHOD section 4).

Drawing the parameters is separate from applying them, so that each corruption can be tested without chance.
Patches are float32 [Z, Y, X] in normalised units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lnq.inference.spec import IntTriple

P_FLIP, MAX_FLIPS = 0.4, 3
P_SHUFFLE, P_INTENSITY, P_DECREASING = 0.5, 0.9, 0.5
P_PAINT, P_INPAINT = 0.9, 0.2
SHUFFLE_WINDOWS, SHUFFLE_PATCH_VOXELS = 8000, 64 * 128 * 224  # number of windows on the paper's patch, and its size
SHUFFLE_PART = 20  # a window measures 1 voxel to 1/20 of the patch per axis
INPAINT_BOXES, INPAINT_PARTS = 5, (8, 6)  # a box measures 1/8 to 1/6 of the patch per axis
OUTPAINT_BOXES, OUTPAINT_PARTS = 201, (8, 4)
CURVE_POINTS = 1000

Boxes = np.ndarray
"""int [N, 2, 3]: for each box its first voxel and the one past its last, (z, y, x)."""


@dataclass(frozen=True, eq=False)
class Corruption:
    """The parameters of one patch's corruption. `seed` draws the permutations and the noise, too large to store."""

    flips: tuple[int, ...]  # axes, in order; the clean patch is flipped too
    shuffle: Boxes
    curve: np.ndarray | None  # [4, 2] control points (input, output) in units of the patch's percentile range
    decreasing: bool
    paint: Literal["in", "out"] | None
    boxes: Boxes
    seed: int


def draw_corruption(shape: IntTriple, rng: np.random.Generator) -> Corruption:
    """Draw the parameters for a patch of `shape` (z, y, x)."""
    flips: list[int] = []
    while len(flips) < MAX_FLIPS and rng.random() < P_FLIP:
        flips.append(int(rng.integers(3)))
    windows = 0
    if rng.random() < P_SHUFFLE:
        windows = max(1, round(SHUFFLE_WINDOWS * float(np.prod(shape)) / SHUFFLE_PATCH_VOXELS))
    largest = np.maximum(np.array(shape) // SHUFFLE_PART, 1)
    shuffle = _draw_boxes(shape, windows, np.ones(3, dtype=int), largest, rng)
    curve = None
    if rng.random() < P_INTENSITY:
        curve = np.array([(0.0, 0.0), rng.random(2), rng.random(2), (1.0, 1.0)])
    decreasing = bool(rng.random() < P_DECREASING)
    paint: Literal["in", "out"] | None = None
    if rng.random() < P_PAINT:
        paint = "in" if rng.random() < P_INPAINT else "out"
    count, parts = (INPAINT_BOXES, INPAINT_PARTS) if paint == "in" else (OUTPAINT_BOXES, OUTPAINT_PARTS)
    smallest, largest = (np.maximum(np.array(shape) // part, 1) for part in parts)
    boxes = _draw_boxes(shape, count if paint else 0, smallest, largest, rng)
    return Corruption(tuple(flips), shuffle, curve, decreasing, paint, boxes, int(rng.integers(2**63)))


def _draw_boxes(
    shape: IntTriple, count: int, smallest: np.ndarray, largest: np.ndarray, rng: np.random.Generator
) -> Boxes:
    size = rng.integers(smallest, largest + 1, size=(count, 3))
    start = rng.integers(0, np.array(shape) - size + 1)
    return np.stack([start, start + size], axis=1)


def apply_corruption(patch: np.ndarray, corruption: Corruption) -> tuple[np.ndarray, np.ndarray]:
    """Return (corrupted, clean), two new float32 [Z, Y, X] arrays. The clean one is the patch, flipped."""
    for axis in corruption.flips:
        patch = np.flip(patch, axis)
    clean = np.array(patch, dtype=np.float32, order="C")
    rng = np.random.default_rng(corruption.seed)
    corrupted = shuffle_windows(clean, corruption.shuffle, rng)
    if corruption.curve is not None:
        corrupted = map_intensity(corrupted, corruption.curve, corruption.decreasing)
    if corruption.paint is not None:
        corrupted = paint(corrupted, corruption.boxes, corruption.paint, rng)
    return corrupted, clean


def shuffle_windows(patch: np.ndarray, windows: Boxes, rng: np.random.Generator) -> np.ndarray:
    """Permute the voxels within each window, one window after the other. The set of values stays the same."""
    out = patch.copy()
    for (z0, y0, x0), (z1, y1, x1) in windows.tolist():
        window = out[z0:z1, y0:y1, x0:x1]
        if window.size > 1:
            out[z0:z1, y0:y1, x0:x1] = rng.permutation(window.ravel()).reshape(window.shape)
    return out


def map_intensity(patch: np.ndarray, control: np.ndarray, decreasing: bool) -> np.ndarray:
    """Map values along a cubic Bezier curve between the patch's 0.1 and 99.9 percentiles, clamped outside them.

    `control`: [4, 2] points (input, output) in units of that range. The curve's points are sorted on both axes, so the
    map is monotone: falling where `decreasing`, else rising.
    """
    low, high = np.percentile(patch, (0.1, 99.9))
    if not high > low:
        return patch.copy()
    t = np.linspace(0.0, 1.0, CURVE_POINTS)[:, None]
    basis = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    x, y = np.sort(low + (high - low) * (basis @ control), axis=0).T
    mapped: np.ndarray = np.interp(patch, x, y[::-1] if decreasing else y)
    return mapped.astype(np.float32)


def paint(patch: np.ndarray, boxes: Boxes, kind: Literal["in", "out"], rng: np.random.Generator) -> np.ndarray:
    """Put uniform noise in [0, 1) inside the boxes ("in") or everywhere outside their union ("out")."""
    if kind == "in":
        out = patch.copy()
        for (z0, y0, x0), (z1, y1, x1) in boxes.tolist():
            out[z0:z1, y0:y1, x0:x1] = rng.random((z1 - z0, y1 - y0, x1 - x0), dtype=np.float32)
        return out
    out = rng.random(patch.shape, dtype=np.float32)
    for (z0, y0, x0), (z1, y1, x1) in boxes.tolist():
        out[z0:z1, y0:y1, x0:x1] = patch[z0:z1, y0:y1, x0:x1]
    return out
