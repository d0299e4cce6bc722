import numpy as np
import pytest

from lnq.anatomy.crop import find_crop
from lnq.errors import ImageError
from lnq.image.plausible import blood_hu, check_image, noise_hu, warnings_for
from lnq.image.volume import Volume, make_affine
from lnq.inference.spec import CropSpec


def chest(**changes) -> Volume:
    """A box of tissue in air, 4 x 8 x 8 voxels of 3 x 15 x 15 mm."""
    array = np.full((4, 8, 8), -1000, np.int16)
    array[:, 2:5, 2:5] = 40
    affine = make_affine((3.0, 15.0, 15.0))
    return Volume(changes.get("array", array), changes.get("affine", affine))


def replaced(dtype: type, value: float) -> np.ndarray:
    array = chest().array.astype(dtype)
    array[0, 0, 0] = value
    return array


def mirrored() -> np.ndarray:
    affine = make_affine((3.0, 15.0, 15.0))
    affine[:, 2] *= -1
    return affine


def sheared() -> np.ndarray:
    affine = make_affine((3.0, 1.0, 1.0))
    affine[:3, 0] += [0, 0.5, 0]
    return affine


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"array": chest().array[:1]}, "it is a single slice: a CT volume is needed"),
        ({"array": chest().array[:0]}, "it has no voxels"),
        ({"affine": make_affine((3, 0, 1))}, "its voxel spacing 1 x 0 x 3 mm lies outside 0.2-15 mm"),
        ({"affine": make_affine((3, 0.19, 1))}, "its voxel spacing 1 x 0.19 x 3 mm lies outside 0.2-15 mm"),
        ({"affine": make_affine((15.1, 1, 1))}, "its voxel spacing 1 x 1 x 15.1 mm lies outside 0.2-15 mm"),
        ({"affine": make_affine((3, np.nan, 1))}, "its position or spacing is not a usable number"),
        ({"affine": make_affine((3, 15, 15), (0, 1e30, 0))}, "its position or spacing is not a usable number"),
        ({"affine": sheared()}, "its orientation matrix is not a rotation"),
        ({"array": replaced(np.float32, np.nan)}, "it holds NaN or infinite values"),
        ({"array": replaced(np.float32, -np.inf)}, "it holds NaN or infinite values"),
        ({"array": np.full((4, 8, 8), -1000, np.int16)}, "it shows only air"),
        ({"array": chest().array.astype(np.int8)}, "its voxels have 8 bits"),
        ({"array": np.clip(chest().array, -200, None)}, "its values are not HU: none lies below -200"),
    ],
)
def test_unusable_image_is_refused(changes, sentence):
    with pytest.raises(ImageError, match=f"^scan.mha cannot be used: {sentence}"):
        check_image(chest(**changes), "scan.mha")


@pytest.mark.parametrize("affine", [make_affine((0.2, 15, 15)), make_affine((15, 15, 15)), mirrored()])
def test_unusual_but_sound_geometry_is_accepted(affine):
    check_image(chest(affine=affine))


def with_shape(*shape: int) -> np.ndarray:
    """The chest drawn finer or coarser."""
    array = chest().array
    return array[np.ix_(*(np.arange(n) * old // n for n, old in zip(shape, array.shape, strict=True)))]


CORONAL = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], float)  # columns z, y, x: z to the back, y down, x to the left


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "direction", "sentence"),
    [
        ((4, 10, 9), (3, 10, 10), None, "its field of view of 90 x 100 mm lies outside 100-800 mm"),
        ((4, 81, 80), (3, 10, 10), None, "its field of view of 800 x 810 mm lies outside 100-800 mm"),
        ((20, 250, 20), (10, 10, 4), CORONAL, "its field of view of 80 x 200 mm lies outside 100-800 mm"),
        ((251, 12, 12), (10, 10, 10), None, "it is 2510 mm long, more than 2500 mm"),
    ],
)
def test_field_of_view_of_no_patient_is_refused(shape, spacing_mm, direction, sentence):
    volume = Volume(with_shape(*shape), make_affine(spacing_mm, direction=direction))
    with pytest.raises(ImageError, match=f"^The image cannot be used: {sentence}"):
        check_image(volume)


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "direction"),
    [
        ((2, 10, 10), (1, 10, 10), None),  # a thin slab
        ((250, 80, 80), (10, 10, 10), None),  # a whole body
        ((20, 250, 20), (10, 10, 10), CORONAL),  # stored from front to back
    ],
)
def test_only_the_field_of_view_across_the_patient_counts(shape, spacing_mm, direction):
    check_image(Volume(with_shape(*shape), make_affine(spacing_mm, direction=direction)))


def cropped(volume: Volume) -> tuple[Volume, np.ndarray, int]:
    """A volume's crop to the lungs, the region in it, and how many lungs there are."""
    crop = find_crop(volume, CropSpec())
    return crop.apply(volume), crop.region, crop.lungs_found


def test_thorax_gives_no_warning(thorax):
    assert warnings_for(*cropped(thorax)) == ()


def test_blood_is_measured_in_the_heart(make_thorax):
    for hu in (40, 160):
        chest, region, _ = cropped(make_thorax(blood_hu=hu))
        assert blood_hu(chest, region) == pytest.approx(hu, abs=10)


def test_blood_is_unknown_without_soft_tissue(thorax):
    chest, region, _ = cropped(thorax)
    assert blood_hu(chest.with_array(np.full_like(chest.array, -1000)), region) is None


def test_missing_contrast_medium_is_warned_of(make_thorax):
    (warning,) = warnings_for(*cropped(make_thorax(blood_hu=40)))
    assert warning.startswith("No contrast medium seen (blood at about 4")


def test_contrast_medium_is_not_looked_for_without_lungs(make_thorax):
    chest, region, _ = cropped(make_thorax(blood_hu=40))
    assert warnings_for(chest, region, lungs_found=0) == ()


def test_thick_slices_are_warned_of():
    volume = chest(affine=make_affine((5.5, 1, 1)))
    found = warnings_for(volume, np.ones(volume.shape, bool), lungs_found=0)
    assert found == ("Slices are 5.5 mm apart: nodes smaller than that may be missed.",)


def with_noise(volume: Volume, hu: float) -> Volume:
    noise = np.random.default_rng(1).normal(0, hu, volume.shape)
    return volume.with_array((volume.array + noise).astype(np.int16))


def test_noise_is_that_of_neighbouring_pixels(thorax):
    crop = find_crop(thorax, CropSpec())  # whose own noise is 8 HU
    noisy = crop.apply(with_noise(thorax, 30)).array
    assert noise_hu(crop.apply(thorax).array, crop.region) == pytest.approx(8, abs=1)
    assert noise_hu(noisy, crop.region) == pytest.approx(np.hypot(8, 30), abs=3)
    assert noise_hu(np.full_like(noisy, -1000), crop.region) is None


def test_noise_beyond_the_training_datas_is_warned_of(thorax):
    crop = find_crop(thorax, CropSpec())
    noisy = crop.apply(with_noise(thorax, 70))  # median differences grow less: tissue is what stays at -20 to 250 HU
    warning = "Very noisy (about 59 HU), as of a sharp kernel: nodes may be missed."
    assert warning in warnings_for(noisy, crop.region, 2)
    less = warnings_for(crop.apply(with_noise(thorax, 40)), crop.region, 2)
    assert not [w for w in less if w.startswith("Very noisy")]
