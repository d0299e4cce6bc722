import numpy as np
import pytest

from lnq.anatomy.crop import Crop
from lnq.image.volume import Volume, make_affine
from lnq.inference.spec import PostProcessing
from lnq.nodes.postprocess import drop_at_border, drop_faint, drop_small, postprocess

SHAPE = (12, 20, 20)
SPACING_MM = (2.0, 1.0, 1.0)


@pytest.fixture
def image() -> Volume:
    return Volume(np.full(SHAPE, 50, np.int16), make_affine(SPACING_MM))


@pytest.fixture
def crop() -> Crop:
    return Crop((slice(0, 12), slice(0, 20), slice(0, 20)), np.ones(SHAPE, bool), 2, SHAPE)


def cube(*corner: int, size: int = 4) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(c, c + size) for c in corner)] = True
    return mask


RULES = PostProcessing(border_mm=(2.0, 2.0, 2.0), hu_range=(0.0, 100.0), min_volume_mm3=20.0)


def test_a_plain_node_is_kept(image, crop):
    out = postprocess(cube(4, 8, 8), image, crop, RULES)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, cube(4, 8, 8))


def test_an_empty_mask_stays_empty(image, crop):
    assert not postprocess(np.zeros(SHAPE, bool), image, crop, RULES).any()


def test_nothing_is_reported_outside_of_the_region(image, crop):
    crop.region[:, :, 10:] = False
    mask = cube(4, 8, 8)
    out = postprocess(mask, image, crop, RULES)
    assert out.sum() == 4 * 4 * 2
    np.testing.assert_array_equal(postprocess(mask, image, crop, RULES, use_region=False), mask)


def test_a_part_of_the_grid_gives_that_part_of_the_result(image, crop):
    crop.region[:, :, :9] = False
    mask = cube(4, 8, 8) | cube(7, 1, 12)  # the second touches the border in front, which the part does not show
    part = (slice(2, 12), slice(1, 19), slice(5, 20))
    whole = postprocess(mask, image, crop, RULES)
    np.testing.assert_array_equal(postprocess(mask[part], image.crop(part), crop, RULES, part=part), whole[part])
    assert whole.sum() == 4 * 4 * 3


@pytest.mark.parametrize(
    ("corner", "kept"),
    [
        ((0, 8, 8), False),  # the band is 1 voxel of 2 mm from below
        ((1, 8, 8), True),
        ((7, 8, 8), True),
        ((8, 8, 8), False),
        ((4, 1, 8), False),  # and 2 voxels of 1 mm from the front
        ((4, 2, 8), True),
        ((4, 8, 14), True),
        ((4, 8, 15), False),
    ],
)
def test_what_touches_the_border_goes_as_a_whole(corner, kept):
    mask = cube(*corner)
    out = drop_at_border(mask, SPACING_MM, (2.0, 2.0, 2.0))
    assert out.sum() == (mask.sum() if kept else 0)


def test_no_border_drops_nothing():
    mask = np.ones(SHAPE, bool)
    assert drop_at_border(mask, SPACING_MM, (0.0, 0.0, 0.0)).all()


def test_a_border_wider_than_the_volume_drops_all():
    assert not drop_at_border(np.ones(SHAPE, bool), SPACING_MM, (100.0, 0.0, 0.0)).any()


def test_voxels_beyond_the_hu_range_are_taken_out(image, crop):
    image.array[4, 8, 8:12] = (-1, 0, 100, 101)
    out = postprocess(cube(4, 8, 8), image, crop, RULES)
    assert out[4, 8, 8:12].tolist() == [0, 1, 1, 0]
    assert out.sum() == 62


def test_a_component_of_exactly_the_least_volume_is_dropped():
    mask = np.zeros(SHAPE, bool)
    mask[4, 8, 0:10] = True  # 10 voxels of 2 mm3
    mask[8, 8, 0:11] = True
    out = drop_small(mask, 2.0, 20.0)
    assert not out[4].any()
    assert out[8].sum() == 11


def test_voxels_that_touch_at_a_corner_are_one_component():
    mask = cube(2, 2, 2, size=2) | cube(4, 4, 4, size=2)
    assert drop_small(mask, 2.0, 20.0).sum() == 16  # 8 voxels each, 32 mm3 together


def test_small_is_judged_after_the_hu_range(image, crop):
    image.array[4:8, 8:12, 9:12] = 500
    assert not postprocess(cube(4, 8, 8), image, crop, PostProcessing(RULES.border_mm, (0.0, 100.0), 32.0)).any()


def test_faint_components_are_dropped_whole_and_the_others_kept_whole():
    probability = np.zeros((4, 6, 6), np.float32)
    probability[1, 1, 1:4] = 0.5, 0.96, 0.5
    probability[2, 2, 4] = 0.5  # touches the first at a corner
    probability[3, 5, 0:3] = 0.9
    mask = (probability >= 0.4).astype(np.uint8)
    kept = drop_faint(mask, probability, 0.95)
    assert kept.dtype == np.uint8
    assert np.argwhere(kept).tolist() == [[1, 1, 1], [1, 1, 2], [1, 1, 3], [2, 2, 4]]
    np.testing.assert_array_equal(drop_faint(mask, probability, 0.0), mask)
    assert not drop_faint(mask, probability, 0.97).any()
    assert not drop_faint(np.zeros_like(mask), probability, 0.5).any()
