"""From tissue to image: the kernel's sharpness, noise with its texture, and the range that a scanner stores."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Scanner:
    """How a scanner turns tissue into an image."""

    blur_mm: float  # sigma of the Gaussian in the plane
    overshoot: float  # how much a sharp kernel exaggerates edges; 0 is not at all
    noise_hu: float  # standard deviation at the centre of a chest
    noise_peak_per_mm: float  # spatial frequency at which the noise power is highest
    streak_share: float  # strength of the streaks along the shoulders, as a share of the noise


def draw_scanner(rng: np.random.Generator, slice_mm: float) -> Scanner:
    """Draw a protocol. Most kernels are soft. One in six is sharp and noisy, as lung kernels are."""
    if rng.random() < 0.16:
        return Scanner(
            float(rng.uniform(0.25, 0.4)), float(rng.uniform(0.3, 0.7)), float(rng.uniform(24, 55)),
            float(rng.uniform(0.42, 0.58)), float(rng.uniform(0.2, 0.5)),
        )  # fmt: skip
    noise = float(np.clip(np.exp(rng.normal(np.log(10), 0.35)) * np.sqrt(2.5 / max(slice_mm, 1.0)), 4, 26))
    return Scanner(
        float(rng.uniform(0.35, 0.7)), float(rng.uniform(0.0, 0.25)), noise,
        float(rng.uniform(0.18, 0.32)), float(rng.uniform(0.2, 0.6)),
    )  # fmt: skip


def blur(hu: np.ndarray, scanner: Scanner, spacing_yx_mm: tuple[float, float]) -> np.ndarray:
    """Apply the kernel's point spread to float32 HU [Z, Y, X], in the plane alone."""
    sigma = [0.0, *(scanner.blur_mm / s for s in spacing_yx_mm)]
    out: np.ndarray = ndimage.gaussian_filter(hu, sigma, truncate=3.0)
    if scanner.overshoot > 0.05:
        wide = ndimage.gaussian_filter(out, [0.0, *(1.2 / s for s in spacing_yx_mm)], truncate=2.5)
        out += scanner.overshoot * (out - wide)
    return out


def noise(hu: np.ndarray, scanner: Scanner, spacing_yx_mm: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Noise float32 [Z, Y, X] in HU. It has no power at frequency 0 and is stronger where rays cross more tissue."""
    rows, columns = hu.shape[1:]
    fy = np.fft.fftfreq(rows, spacing_yx_mm[0])[:, None]
    fx = np.fft.rfftfreq(columns, spacing_yx_mm[1])[None]
    f = np.sqrt(fy**2 + fx**2) / scanner.noise_peak_per_mm
    isotropic = f * np.exp(0.5 * (1 - f**2))
    # Rays along x carry most noise where they are longest. Their noise varies along y only.
    along_x = isotropic * np.exp(-((fx / 0.05) ** 2))
    isotropic, along_x = (w / np.sqrt(_mean_square(w, columns)) for w in (isotropic, along_x))
    out = np.empty_like(hu)
    for i, image in enumerate(hu):
        across, down = _path_lengths(image, spacing_yx_mm)
        spectra = [np.fft.rfft2(rng.standard_normal((rows, columns), dtype=np.float32)) for _ in range(2)]
        base, streak = (
            np.fft.irfft2(s * w, s=(rows, columns)).astype(np.float32)
            for s, w in zip(spectra, (isotropic, along_x), strict=True)
        )
        # A path of 220 mm of water has strength 1. The modulation of the tube current takes back half of the rest.
        strength = 0.5 * (np.exp(0.0055 * (across - 220)) + np.exp(0.0055 * (down - 220)))
        long_path = np.clip((across - 230) / 200, 0, 2)
        out[i] = scanner.noise_hu * (np.sqrt(strength) * base + scanner.streak_share * long_path * streak)
    return out


def add_streaks(
    hu: np.ndarray,
    axes_mm: tuple[np.ndarray, np.ndarray, np.ndarray],
    vein_mm: np.ndarray,
    strength_hu: float,
    rng: np.random.Generator,
) -> None:
    """Add streaks that radiate from a dense vein, bright and dark by turns, to HU [Z, Y, X], in place.

    axes_mm: z, y, x of the voxels. vein_mm: points [N, 3] of its course, z, y, x in the image, with z rising. A streak
    fades with the distance from the vein, and changes little from slice to slice. Only slices that the vein crosses
    have any.
    """
    z, y, x = axes_mm
    waves = np.arange(3, 13)
    phases, weights = rng.uniform(0, 2 * np.pi, len(waves)), rng.uniform(0.3, 1.0, len(waves))
    weights /= np.sqrt((weights**2).sum() / 2)  # the sum of the waves has a deviation of 1
    drift = rng.normal(0, 0.05, len(waves))  # of the phases, radians per mm
    for i, height in enumerate(z):
        if not vein_mm[0, 0] <= height <= vein_mm[-1, 0]:
            continue
        cy, cx = (np.interp(height, vein_mm[:, 0], vein_mm[:, axis]) for axis in (1, 2))
        dy, dx = (y - cy)[:, None], (x - cx)[None]
        distance = np.hypot(dy, dx)
        angle = np.arctan2(dy, dx)
        fan = sum(
            w * np.sin(k * angle + p + d * height) for k, w, p, d in zip(waves, weights, phases, drift, strict=True)
        )
        hu[i] += strength_hu * fan * np.clip(distance / 6.0, 0, 1) * np.exp(-distance / 30.0) * (hu[i] > -500)


def _mean_square(w: np.ndarray, columns: int) -> float:
    """Mean of w^2 over the full spectrum. `w` holds the half of it that rfft keeps."""
    weight = np.full(w.shape[1], 2.0)
    weight[0] = 1.0
    if columns % 2 == 0:
        weight[-1] = 1.0
    return float((w**2 * weight).sum() / (w.shape[0] * columns))


def _path_lengths(image: np.ndarray, spacing_yx_mm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Water-equivalent mm along x for each row [Y, 1] and along y for each column [1, X], smoothed."""
    water = np.clip(1 + image / 1000, 0, 2.0)
    across = ndimage.gaussian_filter1d(water.sum(1) * spacing_yx_mm[1], 10 / spacing_yx_mm[0])
    down = ndimage.gaussian_filter1d(water.sum(0) * spacing_yx_mm[0], 10 / spacing_yx_mm[1])
    return across[:, None].astype(np.float32), down[None].astype(np.float32)


def to_image(
    hu: np.ndarray, scanner: Scanner, spacing_yx_mm: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """The stored image, int16 HU [Z, Y, X] from -1024 to 3071, of ideal float32 HU [Z, Y, X]."""
    image = blur(hu, scanner, spacing_yx_mm)
    image += noise(image, scanner, spacing_yx_mm, rng)
    stored: np.ndarray = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    return stored
