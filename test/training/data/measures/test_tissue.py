from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from lnq.image.volume import Volume, make_affine
from lnq.nodes.measure import Landmarks
from training.data.measures.record import MarkedNode
from training.data.measures.tissue import marked_nodes, smoothed

SPACING_MM = (3.0, 1.0, 1.0)
SHAPE = (12, 40, 40)
BOX = np.s_[4:8, 10:20, 12:22]
NOWHERE = Landmarks(None, None)


def block(hu: float, around: float = -100.0) -> Volume:
    array = np.full(SHAPE, around, np.int16)
    array[BOX] = hu
    return Volume(array, make_affine(SPACING_MM, (-20.0, -20.0, 0.0)))


def label_of(*boxes: tuple[slice, ...]) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        label[box] = 1
    return label


def only(image: Volume, blood_hu: float | None = None, region: np.ndarray | None = None) -> MarkedNode:
    inside = np.ones(SHAPE, bool) if region is None else region
    (node,) = marked_nodes(image, label_of(BOX), inside, blood_hu, NOWHERE)
    return node


@pytest.mark.parametrize(
    ("hu", "blood_hu", "air", "bright"),
    [
        (60.0, 45.0, 0.0, 0.0),
        (120.0, 300.0, 0.0, 0.0),
        (-850.0, 45.0, 0.9, 0.0),
        (200.0, 45.0, 0.0, 0.6),
        (200.0, None, 0.0, 0.6),
        (200.0, 260.0, 0.0, 0.0),  # below four fifths of the blood's
        (260.0, 260.0, 0.0, 0.6),
    ],
)
def test_shares_tell_the_tissue(hu: float, blood_hu: float | None, air: float, bright: float) -> None:
    node = only(block(hu), blood_hu)
    assert (node.air >= air) and (node.air > 0) == (air > 0)
    assert (node.bright >= bright) and (node.bright > 0) == (bright > 0)
    assert node.mean_hu == hu and node.volume_mm3 == 400 * 3.0


def test_bone_is_uneven_and_blood_is_not() -> None:
    even, uneven = block(400.0), block(400.0)
    rows = np.arange(10)[None, :, None] // 3 % 2
    uneven.array[BOX] += (300 * rows).astype(np.int16)
    assert only(even).bright_spread_hu < 40 < only(uneven).bright_spread_hu
    assert only(even).bright_hu == pytest.approx(360, abs=40)
    assert only(block(50.0)).bright_hu == 0.0


def test_places_are_told_by_region_midline_and_carina() -> None:
    region = np.zeros(SHAPE, bool)
    region[:, :15] = True
    found = list(
        marked_nodes(
            block(60.0), label_of(BOX, np.s_[10:11, 2:6, 36:39]), region, None, Landmarks(-5.0, (-5.0, 0.0, 20.0))
        )
    )
    low, high = found
    assert low.box == ((4, 10, 12), (8, 20, 22)) and low.outside == 0.5
    assert (low.side, low.above_carina_mm) == ("middle", 16.5 - 20.0)
    assert (high.side, high.above_carina_mm, high.outside) == ("left", 10.0, 0.0)
    assert only(block(60.0)).side is None and only(block(60.0)).above_carina_mm is None


def test_without_a_label_there_is_no_node() -> None:
    assert list(marked_nodes(block(60.0), label_of(), np.ones(SHAPE, bool), None, NOWHERE)) == []


@pytest.mark.parametrize("box", [np.s_[0:3, 0:5, 35:40], BOX])
def test_smoothing_a_part_is_smoothing_the_whole(box: tuple[slice, slice, slice]) -> None:
    image = block(60.0)
    image.array[:] = np.random.default_rng(0).normal(0, 100, SHAPE)
    whole = ndimage.gaussian_filter(image.array.astype(np.float32), [1 / 3, 1.0, 1.0])
    np.testing.assert_allclose(smoothed(image, box), whole[box], atol=1e-3)
