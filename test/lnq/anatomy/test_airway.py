"""The carina, in an airway drawn with tubes and in phantoms, whose carina is known."""

from __future__ import annotations

import numpy as np
import pytest

from lnq.anatomy.airway import find_carina
from lnq.anatomy.crop import find_crop
from lnq.image.volume import Volume, make_affine
from lnq.inference.spec import CropSpec
from phantom.make import PARTS, make_phantom
from phantom.patient import draw_patient

CARINA_S_MM = 60.0


def draw_airway(spacing_mm: tuple[float, float, float], fold: bool = False) -> tuple[Volume, np.ndarray]:
    """Soft tissue with a trachea of 16 mm that becomes two bronchi of 12 mm, 70 degrees apart, 60 mm up; its region.

    `fold`: a membrane parts the trachea 35 mm further up, over 3 mm.
    """
    shape = tuple(round(mm / s) for mm, s in zip((120, 100, 140), spacing_mm, strict=True))
    z, y, x = (np.arange(n) * s for n, s in zip(shape, spacing_mm, strict=True))
    z, y, x = np.meshgrid(z, y - 50.0, x - 70.0, indexing="ij")
    depth = CARINA_S_MM - z
    offset = np.where(depth > 0, 6.0 + 0.7 * depth, 0.0)
    air = np.hypot(np.abs(x) - offset, y) <= np.where(depth > 0, 6.0, 8.0)
    if fold:
        air &= ~((np.abs(x) < 2) & (np.abs(z - CARINA_S_MM - 35) < 1.5))
    hu = np.where(air, -1000, 40).astype(np.int16)
    region = np.abs(x) < 45
    return Volume(hu, make_affine(spacing_mm, origin_mm=(-70.0, -50.0, 0.0))), region


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.7, 0.7), (3.0, 0.8, 0.8), (5.0, 0.9, 0.9)])
@pytest.mark.parametrize("fold", [False, True])
def test_the_carina_of_a_drawn_airway_is_found(spacing_mm, fold):
    found = find_carina(*draw_airway(spacing_mm, fold))
    assert found is not None
    assert found == pytest.approx((0.0, 0.0, CARINA_S_MM), abs=max(2.5, spacing_mm[0]))


def test_air_beside_the_trachea_is_no_bronchus():
    """A pocket of lung air behind the tracheal wall, 2 mm from the lumen, over 12 mm."""
    chest, region = draw_airway((3.0, 0.8, 0.8))
    z, y, x = np.indices(chest.shape) * np.array(chest.spacing_mm)[:, None, None, None]
    pocket = (np.hypot(y - 50, x - 70 - 16) <= 6) & (np.abs(z - 90) <= 6)
    found = find_carina(chest.with_array(np.where(pocket, -1000, chest.array).astype(np.int16)), region)
    assert found == pytest.approx((0.0, 0.0, CARINA_S_MM), abs=3)


def test_the_carina_of_an_oblique_scan_is_found_in_patient_coordinates():
    chest, region = draw_airway((3.0, 0.8, 0.8))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    straight = find_carina(chest, region)
    found = find_carina(Volume(chest.array, turn @ chest.affine), region)
    assert straight is not None and found is not None
    assert found == pytest.approx((turn @ [*straight, 1.0])[:3], abs=1e-6)


def test_a_division_outside_the_region_is_none():
    chest, region = draw_airway((3.0, 0.8, 0.8))
    index = round(CARINA_S_MM / 3)
    region[index - 4 : index + 4] = False
    assert find_carina(chest, region) is None


@pytest.mark.parametrize("pad", [(400, 0), (0, 400)], ids=["behind", "in front"])
def test_air_that_parts_near_the_back_or_the_front_of_the_lungs_is_no_airway(pad):
    """As a bulla beside the spine does."""
    chest, region = draw_airway((3.0, 0.8, 0.8))
    hu = np.pad(chest.array, ((0, 0), pad, (0, 0)), constant_values=40)
    region = np.pad(region, ((0, 0), pad, (0, 0)), mode="edge")
    assert find_carina(Volume(hu, chest.affine), region) is None


def test_a_scan_that_ends_at_the_division_has_no_carina():
    chest, region = draw_airway((3.0, 0.8, 0.8))
    start = round(CARINA_S_MM / 3) - 3  # the bronchi have parted by the last slice, and nothing shows that they stay so
    assert find_carina(chest.crop((slice(start, None), slice(None), slice(None))), region[start:]) is None


def test_an_airway_that_does_not_divide_has_no_carina():
    chest, region = draw_airway((2.0, 0.8, 0.8))
    upper = chest.crop((slice(35, None), slice(None), slice(None)))
    assert find_carina(upper, region[35:]) is None


def test_nothing_is_found_without_air_or_region():
    chest, region = draw_airway((2.0, 0.8, 0.8))
    assert find_carina(chest.with_array(np.full(chest.shape, 40, np.int16)), region) is None
    assert find_carina(chest, np.zeros_like(region)) is None


@pytest.mark.parametrize("seed", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_the_carina_of_a_phantom_is_found(seed):
    phantom = make_phantom(seed, spacing_mm=(4.0, 1.6, 1.6), size=(64, 224, 224))
    patient = draw_patient(np.random.default_rng(np.random.SeedSequence(seed).spawn(len(PARTS))[0]), None)
    true = patient.pose.to_image(np.zeros(3))[::-1]
    crop = find_crop(phantom.ct, CropSpec())
    found = find_carina(crop.apply(phantom.ct), crop.region)
    assert found is not None
    # the airway's axes part at the true point; its lumen some mm below
    assert np.abs(np.array(found) - true)[:2].max() < 8 and -12 < found[2] - true[2] < 4
