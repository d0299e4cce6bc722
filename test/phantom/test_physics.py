import numpy as np
import pytest

from phantom.physics import Scanner, add_streaks, blur, draw_scanner, noise, to_image

SOFT = Scanner(blur_mm=0.6, overshoot=0.0, noise_hu=10.0, noise_peak_per_mm=0.25, streak_share=0.0)
SPACING = (0.8, 0.8)


def water_disc(slices: int = 4, radius_mm: float = 110) -> np.ndarray:
    """A water cylinder in air; 220 mm in diameter is the body whose noise is the scanner's nominal one."""
    axis = (np.arange(400) - 199.5) * 0.8
    inside = np.hypot(*np.meshgrid(axis, axis, indexing="ij")) < radius_mm
    return np.repeat(np.where(inside, 0.0, -1000.0)[None], slices, axis=0).astype(np.float32)


def test_noise_at_the_centre_has_the_nominal_strength_and_no_bias():
    values = noise(water_disc(), SOFT, SPACING, np.random.default_rng(0))[:, 180:220, 180:220]
    assert values.std() == pytest.approx(10.0, rel=0.1)
    assert abs(values.mean()) < 0.3


def test_noise_is_band_limited():
    values = noise(water_disc(1), SOFT, SPACING, np.random.default_rng(0))[0]
    power = np.abs(np.fft.fft2(values)) ** 2
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(400, 0.8)] * 2, indexing="ij"))
    ring = [power[(f > a) & (f < b)].mean() for a, b in ((0.0, 0.03), (0.2, 0.3), (0.55, 0.62))]
    assert ring[1] > 10 * ring[0] and ring[1] > 4 * ring[2]


def test_thicker_bodies_are_noisier():
    thin, thick = (
        noise(water_disc(4, radius), SOFT, SPACING, np.random.default_rng(0))[:, 190:210, 190:210]
        for radius in (110, 150)
    )
    assert thick.std() > 1.15 * thin.std()


def test_blur_keeps_the_mean_and_overshoot_sharpens_the_edge():
    step = np.zeros((1, 64, 64), np.float32)
    step[:, :, 32:] = 100
    soft, sharp = (blur(step, Scanner(0.6, overshoot, 0, 0.3, 0), SPACING) for overshoot in (0.0, 0.5))
    assert soft.mean() == pytest.approx(50.0, abs=0.1)
    assert soft.max() <= 100.01 and sharp.max() > 102
    assert 0 < soft[0, 32, 31] < soft[0, 32, 32] < 100


def test_image_is_stored_as_a_scanner_stores_it():
    image = to_image(water_disc(2), SOFT, SPACING, np.random.default_rng(0))
    assert image.dtype == np.int16 and image.min() == -1024


def test_thick_slices_are_less_noisy():
    thin, thick = ([draw_scanner(np.random.default_rng(s), mm).noise_hu for s in range(300)] for mm in (1.0, 5.0))
    assert np.median(thin) > 1.3 * np.median(thick)


def streaked() -> np.ndarray:
    """What streaks add to water around a vein at y = 0, x = 0, from z = 0 to z = 10 mm, and to air beyond 70 mm."""
    z, axis = np.arange(-5.0, 16.0, 5.0), np.arange(-80.0, 80.1, 1.0)
    hu = np.zeros((len(z), len(axis), len(axis)), np.float32)
    hu[:, :, axis > 70] = -1000.0
    before = hu.copy()
    vein = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]])
    add_streaks(hu, (z, axis, axis), vein, 30.0, np.random.default_rng(0))
    return hu - before


def test_streaks_lie_in_the_veins_slices_and_in_tissue_alone():
    added = streaked()
    assert [bool(slice_.any()) for slice_ in added] == [False, True, True, True, False]
    assert not added[:, :, -9:].any()


def test_streaks_have_the_strength_asked_for_fade_and_change_little_from_slice_to_slice():
    added = streaked()
    y, x = np.meshgrid(*[np.arange(-80.0, 80.1, 1.0)] * 2, indexing="ij")
    distance = np.hypot(y, x)
    near, far = (added[2][(distance > a) & (distance < b)] for a, b in ((6, 9), (55, 60)))
    assert near.std() == pytest.approx(30.0 * np.exp(-7.5 / 30.0), rel=0.15) and abs(near.mean()) < 3
    assert far.std() < 0.3 * near.std()
    assert np.corrcoef(added[1].ravel(), added[2].ravel())[0, 1] > 0.8
