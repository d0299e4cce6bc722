"""What the label of a prepared case marks: each node's tissue, and its place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from lnq.image.components import label as label_components
from lnq.image.volume import Box, Volume
from lnq.nodes.measure import Landmarks, side_of
from training.data.measures.record import Corners, MarkedNode

AIR_HU = -200.0  # air and lung lie below, as for certain background
SOFT_HU = (-20.0, 200.0)  # nodes, vessels, muscle; fat lies below
BRIGHT_HU = 150.0  # nodes enhance to 120 HU, but for rare ones; bone, calcium and blood in many CTs are brighter
BLOOD_PART = 0.8  # of the blood's HU: in a CT with much contrast medium nodes may reach BRIGHT_HU, but not this
_SMOOTH_MM = 1.0  # deviation of the Gaussian that noise is smoothed by, as for certain background
_REACH = 4  # deviations of the Gaussian that count


def marked_nodes(
    image: Volume, label: np.ndarray, region: np.ndarray, blood_hu: float | None, landmarks: Landmarks
) -> Iterator[MarkedNode]:
    """Yield each annotated node, a 26-connected component of `label` (above 0), all of it [Z, Y, X].

    `image`: HU in LPS axes. `region`: where nodes can be. `blood_hu`: typical HU of this CT's blood.
    """
    numbered, _ = label_components(label)
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        inside = numbered[box] == number
        hu = smoothed(image, box)[inside]
        is_bright = hu > max(BRIGHT_HU, BLOOD_PART * (blood_hu or 0.0))
        index = np.argwhere(inside).mean(axis=0) + [side.start for side in box]
        left, _, up = (image.affine @ [*index, 1.0])[:3]
        carina = landmarks.carina_lps_mm
        yield MarkedNode(
            box=corners(box),
            volume_mm3=float(np.count_nonzero(inside)) * image.voxel_volume_mm3,
            mean_hu=round(float(image.array[box][inside].mean()), 1),
            air=_share(hu < AIR_HU),
            bright=_share(is_bright),
            bright_hu=round(float(hu[is_bright].mean()), 1) if is_bright.any() else 0.0,
            bright_spread_hu=round(_spread(hu[is_bright]), 1),
            outside=_share(region[box][inside] == 0),
            side=side_of(float(left), landmarks.midline_l_mm),
            above_carina_mm=None if carina is None else round(float(up - carina[2]), 1),
        )


def smoothed(image: Volume, box: Box) -> np.ndarray:
    """The HU of a box after a Gaussian of 1 mm, float32: what lies around the box counts as it does in the whole."""
    sigma = [_SMOOTH_MM / spacing for spacing in image.spacing_mm]
    margins = [int(_REACH * one) + 1 for one in sigma]
    wide = tuple(slice(max(0, side.start - m), side.stop + m) for side, m in zip(box, margins, strict=True))
    inner = tuple(
        slice(side.start - around.start, side.stop - around.start) for side, around in zip(box, wide, strict=True)
    )
    smooth: np.ndarray = ndimage.gaussian_filter(image.array[wide].astype(np.float32), sigma, truncate=_REACH)[inner]
    return smooth


def corners(box: Box) -> Corners:
    """A box as its first voxel and the voxel after its last one."""
    z, y, x = ((int(side.start), int(side.stop)) for side in box)
    return (z[0], y[0], x[0]), (z[1], y[1], x[1])


def _share(which: np.ndarray) -> float:
    return round(float(which.mean()), 3)


def _spread(hu: np.ndarray) -> float:
    """The deviation of some values, from their upper half, as a border lowers the others; 0 for less than two.

    It is the distance from the median to the 90 percentile, over that of a normal distribution.
    """
    if hu.size < 2:
        return 0.0
    middle, high = np.percentile(hu, (50, 90))
    return float(high - middle) / 1.2816
