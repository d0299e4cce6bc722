import time
import tracemalloc

import numpy as np
import pytest

from lnq.anatomy.crop import Crop, find_crop
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.inference.spec import CropSpec

# The drawn chest: voxels of 5 mm, lungs 92 mm wide about 70 mm left and right of the middle, 150 mm from front to
# back, 200 mm from 70 mm below the origin; voxel 0 lies at (-157.5, -137.5, -80).
LUNG_X = ((-116 + 157.5) / 5, (116 + 157.5) / 5)
LUNG_Y = ((-75 + 137.5) / 5, (75 + 137.5) / 5)
LUNG_Z = ((-70 + 80) / 5, (130 + 80) / 5)
MIDDLE_X, MIDDLE_Y, MIDDLE_Z = 31, 27, 22


def paint(volume: Volume, where: tuple, hu: float) -> Volume:
    array = volume.array.copy()
    array[where] = hu + np.random.default_rng(1).normal(0, 8, array[where].shape)
    return volume.with_array(array)


def test_the_box_is_the_lungs_and_10_mm(thorax):
    crop = find_crop(thorax, CropSpec())
    assert crop.lungs_found == 2
    assert crop.warnings == ()
    for box, (low, high) in zip(crop.box, (LUNG_Z, LUNG_Y, LUNG_X), strict=True):
        # 2 voxels of margin; the round ends of an ellipsoid are worn off by less than 2 voxels
        assert low - 3 <= max(box.start, low - 3) <= low
        assert high <= min(box.stop, high + 4) <= high + 4


def test_the_region_holds_the_heart_and_no_chest_wall(thorax):
    crop = find_crop(thorax, CropSpec())
    region = crop.undo(crop.region)
    assert region[MIDDLE_Z - 8 : MIDDLE_Z + 8, MIDDLE_Y - 6 : MIDDLE_Y + 6, MIDDLE_X - 4 : MIDDLE_X + 4].all()
    assert not region[MIDDLE_Z, MIDDLE_Y, :10].any()
    assert not region[MIDDLE_Z, MIDDLE_Y, 53:].any()
    assert 0.1 < crop.region.mean() < 0.6


def test_undoing_pastes_the_box_back(thorax):
    crop = find_crop(thorax, CropSpec())
    part = crop.apply(thorax)
    assert part.shape == crop.region.shape
    back = crop.undo(part.array)
    assert back.shape == thorax.shape
    np.testing.assert_array_equal(back[crop.box], thorax.array[crop.box])
    assert np.count_nonzero(back) == np.count_nonzero(part.array)


def test_one_lung_reaches_across_the_mediastinum(make_thorax):
    crop = find_crop(make_thorax(lungs=1), CropSpec())
    assert crop.lungs_found == 1
    assert crop.warnings == (
        "Only one lung was found: the box around it was searched instead of the mediastinal region.",
    )
    assert crop.region.all()
    assert crop.box[2].start <= MIDDLE_X - 12  # the lung lies left of the middle; the heart is 60 mm wide
    assert crop.box[2].stop >= LUNG_X[1]


def test_no_lungs_give_the_body(make_thorax):
    crop = find_crop(make_thorax(lungs=0), CropSpec())
    assert crop.lungs_found == 0
    assert crop.warnings == ("No lungs were found: the whole body was searched, so the result is not to be trusted.",)
    assert crop.region.all()
    assert crop.box[0] == slice(0, 48)
    assert crop.box[2].start <= 4 <= 59 <= crop.box[2].stop  # 280 mm wide


def test_nothing_but_air_gives_everything(thorax):
    crop = find_crop(thorax.with_array(np.full(thorax.shape, -1000, np.int16)), CropSpec())
    assert crop.box == tuple(slice(0, n) for n in thorax.shape)


@pytest.mark.parametrize("filled", [0.3, 0.6])
def test_effusion_leaves_two_lungs(thorax, filled):
    back = round(LUNG_Y[1] - filled * 30)
    crop = find_crop(paint(thorax, (slice(None), slice(back, 43), slice(36, 55)), 15), CropSpec())
    assert crop.lungs_found == 2
    assert crop.box[2].stop >= LUNG_X[1]


def test_lungs_that_touch_in_front_of_the_heart_are_two(thorax):
    touching = paint(thorax, (slice(12, 40), slice(14, 18), slice(20, 44)), -850)
    assert find_crop(touching, CropSpec()).lungs_found == 2


def test_a_table_and_arms_change_nothing(thorax):
    plain = find_crop(thorax, CropSpec())
    with_table = paint(thorax, (slice(None), slice(50, 51), slice(4, 60)), 300)
    with_table = paint(with_table, (slice(None), slice(51, 54), slice(4, 60)), -800)  # its foam
    with_table = paint(with_table, (slice(None), slice(54, 55), slice(4, 60)), 300)
    with_arms = paint(with_table, (slice(30, 48), slice(24, 32), slice(0, 3)), 50)
    with_arms = paint(with_arms, (slice(30, 48), slice(24, 32), slice(61, 64)), 50)
    crop = find_crop(with_arms, CropSpec())
    assert crop.lungs_found == 2
    assert crop.box == plain.box


def test_the_trachea_does_not_lengthen_the_box(make_thorax):
    low = make_thorax(shift_s_mm=-40.0)  # leaves 65 mm of neck above the lungs
    trachea = paint(low, (slice(20, None), slice(24, 28), slice(30, 34)), -1000)
    crop = find_crop(trachea, CropSpec())
    assert crop.lungs_found == 2
    assert crop.box[0].stop <= find_crop(low, CropSpec()).box[0].stop + 1


def test_gas_in_the_bowel_is_no_lung(make_thorax):
    abdomen = paint(make_thorax(lungs=0), (slice(8, 30), slice(14, 26), slice(12, 50)), -1000)
    assert find_crop(abdomen, CropSpec()).lungs_found == 0


@pytest.mark.parametrize("side", ["left", "front"])
def test_a_field_of_view_that_cuts_the_lungs_is_said(thorax, side):
    cut = {"left": (slice(None), slice(None), slice(0, 50)), "front": (slice(None), slice(16, None))}[side]
    crop = find_crop(Volume(thorax.array[cut], thorax.affine), CropSpec())
    assert crop.lungs_found == 2
    assert crop.warnings == ("The field of view cuts the lungs at the side: nodes beyond it cannot be found.",)


@pytest.mark.parametrize("radius_mm", [115, 95, 80])
def test_a_round_field_of_view_that_cuts_the_lungs_is_said(thorax, radius_mm):
    _, y, x = np.indices(thorax.shape)
    outside = (x - MIDDLE_X) ** 2 + (y - MIDDLE_Y) ** 2 > (radius_mm / 5) ** 2
    crop = find_crop(thorax.with_array(np.where(outside, -2000, thorax.array).astype(np.int16)), CropSpec())
    assert crop.lungs_found == 2
    assert crop.warnings == (
        "Values down to -2000 HU were taken for padding outside the field of view.",
        "The field of view cuts the lungs at the side: nodes beyond it cannot be found.",
    )


@pytest.mark.parametrize(
    ("slices", "ends"),
    [(slice(14, None), "bottom"), (slice(0, 30), "top"), (slice(14, 30), "bottom and the top")],
)
def test_a_scan_that_ends_within_the_lungs_is_said(thorax, slices, ends):
    crop = find_crop(thorax.crop((slices, slice(None), slice(None))), CropSpec())
    assert crop.warnings == (f"The scan cuts the lungs at the {ends}: nodes beyond cannot be found.",)


def test_padding_alone_is_said_and_changes_nothing(thorax):
    padded = thorax.array.copy()
    padded[:, :4, :6] = -3024
    crop = find_crop(thorax.with_array(padded), CropSpec())
    assert crop.box == find_crop(thorax, CropSpec()).box
    assert crop.warnings == ("Values down to -3024 HU were taken for padding outside the field of view.",)


def test_a_turned_copy_gives_the_same_part_of_the_patient(thorax):
    turned = Volume(thorax.array.transpose(1, 2, 0)[:, ::-1], thorax.affine[:, [1, 2, 0, 3]].copy())
    turned.affine[:3, 3] += turned.affine[:3, 1] * (turned.shape[1] - 1)
    turned.affine[:3, 1] *= -1
    lps, _ = reorient_to_lps(turned)
    assert find_crop(lps, CropSpec()).box == find_crop(thorax, CropSpec()).box


@pytest.mark.slow
def test_a_full_size_ct_takes_under_2_seconds_and_1_gb(thorax):
    big = thorax.array.repeat(9, axis=1).repeat(8, axis=2)[:, :504].repeat(3, axis=0)[:120]
    affine = thorax.affine.copy()
    affine[:3, :3] /= (3, 9, 8)
    find_crop(thorax)  # imports
    start = time.perf_counter()
    crop = find_crop(Volume(big, affine), CropSpec())
    seconds = time.perf_counter() - start
    tracemalloc.start()
    find_crop(Volume(big, affine), CropSpec())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert crop.lungs_found == 2
    assert seconds < 2
    assert peak < 1e9


def test_the_box_is_searched_where_nothing_lies_between_the_lungs(thorax, monkeypatch):
    monkeypatch.setattr("lnq.anatomy.crop.region_between", lambda lungs, *_: np.zeros_like(lungs))
    crop = find_crop(thorax, CropSpec())
    assert crop.region.all()
    assert crop.warnings == ("No mediastinum was found between the lungs: the box around them was searched.",)


def test_region_box_is_in_the_whole_ct():
    region = np.zeros((4, 5, 6), bool)
    region[1:3, 2, 3:6] = True
    crop = Crop((slice(10, 14), slice(20, 25), slice(30, 36)), region, 2, (50, 60, 70))
    assert crop.region_box == (slice(11, 13), slice(22, 23), slice(33, 36))
