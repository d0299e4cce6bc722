import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from lnq.anatomy.region import _dilate, hull, region_between

SPACING_MM = (5.0, 4.0, 4.0)
MARGIN_MM = 15.0


def two_lungs(gap: int = 12) -> np.ndarray:
    """Two boxes 10 voxels wide in the slices 4 to 15, `gap` voxels apart about x = 30."""
    lungs = np.zeros((20, 40, 60), bool)
    lungs[4:16, 8:30, 30 - gap // 2 - 10 : 30 - gap // 2] = True
    lungs[4:16, 8:30, 30 + gap // 2 : 30 + gap // 2 + 10] = True
    return lungs


def test_the_hull_of_a_few_pixels():
    mask = np.zeros((7, 7), bool)
    mask[1, 1] = mask[1, 5] = mask[5, 1] = True
    expected = np.zeros((7, 7), bool)
    for y, x in np.ndindex(7, 7):  # between the three outermost corners of the pixels' squares
        expected[y, x] = y >= 1 and x >= 1 and x + y <= 7
    np.testing.assert_array_equal(hull(mask)[1:5, 1:5], (expected | mask)[1:5, 1:5])
    assert not hull(mask)[0].any()


def test_the_hull_of_one_pixel_and_of_nothing():
    mask = np.zeros((3, 3), bool)
    assert not hull(mask).any()
    mask[1, 1] = True
    np.testing.assert_array_equal(hull(mask), mask)


def test_the_region_lies_between_the_lungs_and_reaches_15_mm_further():
    region = region_between(two_lungs(), SPACING_MM, MARGIN_MM)
    assert region[4:16, 8:23, 24:36].all()
    row = np.flatnonzero(region[10, 20])
    assert (row[0], row[-1]) == (24 - 3, 35 + 3)  # 15 mm are 3 whole voxels of 4 mm
    slices = np.flatnonzero(region.any(axis=(1, 2)))
    assert (slices[0], slices[-1]) == (4 - 3, 15 + 3)  # and 3 of 5 mm


def test_the_spinal_canal_is_no_part_of_it():
    """The lungs end at row 29: 25 mm before that and 25 mm to each side of the middle, at 29.5, in voxels of 4 mm."""
    region = region_between(two_lungs(gap=20), SPACING_MM, MARGIN_MM)
    assert not region[:, 23:, 24:36].any()
    assert region[10, 22, 24:36].all()
    assert region[10, 23:30, [23, 36]].all()


def test_the_chest_wall_is_no_part_of_it():
    region = region_between(two_lungs(), SPACING_MM, MARGIN_MM)
    assert not region[:, :, :18].any()
    assert not region[:, :, 42:].any()


def test_it_reaches_5_mm_out_of_the_hull_where_the_lungs_are_thin():
    lungs = two_lungs()
    lungs[4:16, 8:30, 15:45] = False  # below the domes: a thin sheet of lung at each flank, at 14 and 45
    row = np.flatnonzero(region_between(lungs, SPACING_MM, MARGIN_MM)[10, 20])
    assert (row[0], row[-1]) == (14 - 1, 45 + 1)  # 5 mm are one whole voxel of 4 mm
    column = np.flatnonzero(region_between(lungs, SPACING_MM, MARGIN_MM)[10, :, 30])
    assert (column[0], column[-1]) == (8 - 1, 22)  # behind lies the spinal canal


def test_vessels_and_a_tumour_at_the_chest_wall_are_no_part_of_it():
    lungs = two_lungs()
    lungs[10, 15:18, 17] = False  # a vessel
    lungs[8:12, 12:20, 14:18] = False  # a mass at the outer side of the right lung
    region = region_between(lungs, SPACING_MM, MARGIN_MM)
    assert not region[10, 15, 16]
    assert not region[10, 15, 14]


def test_no_lungs_no_region():
    assert not region_between(np.zeros((4, 5, 6), bool), SPACING_MM, MARGIN_MM).any()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))),
    st.tuples(*[st.sampled_from([0.7, 3.0, 4.0, 5.0, 8.0])] * 3),
    st.sampled_from([5.0, 8.0, 15.0]),
)
def test_masks_are_widened_in_each_slice_as_far_as_distances_say(masks, spacing_mm, radius_mm):
    wide = _dilate(masks, spacing_mm, radius_mm)
    for mask, found in zip(masks, wide, strict=True):
        far = ndimage.distance_transform_edt(~mask, spacing_mm[1:]) if mask.any() else np.full(mask.shape, np.inf)
        np.testing.assert_array_equal(found, far <= radius_mm)
