"""Fine structure of tissue. It is noise that is looked up by position in mm, so it does not depend on the grid."""

import numpy as np


class Texture:
    """Periodic Gaussian noise of unit variance at two scales. The same generator gives the same noise."""

    size = 96  # voxels of the cube that repeats

    def __init__(self, rng: np.random.Generator, step_mm: float = 1.0):
        self.step_mm = step_mm
        self.fine = self._band(rng, 1.3)
        self.lumpy = self._band(rng, 4.5)

    def _band(self, rng: np.random.Generator, sigma: float) -> np.ndarray:
        n = self.size
        white = rng.standard_normal((n, n, n), dtype=np.float32)
        f = np.fft.fftfreq(n)
        filt = np.exp(-2 * (np.pi * sigma) ** 2 * (f[:, None, None] ** 2 + f[:, None] ** 2 + f**2))
        out = np.fft.ifftn(np.fft.fftn(white) * filt).real
        band: np.ndarray = (out / out.std()).astype(np.float32)
        return band

    def look(self, which: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values [Z, Y, X] of `which` (`fine` or `lumpy`) where the 1-D coordinates z, y, x in mm cross."""
        iz, iy, ix = ((np.floor(c / self.step_mm).astype(int)) % self.size for c in (z, y, x))
        values: np.ndarray = which[iz[:, None, None], iy[None, :, None], ix[None, None, :]]
        return values

    def septa(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Thin sheets like the septa of fat, from 0 to 1 [Z, Y, X]. They lie where the lumpy noise changes sign."""
        return np.exp(-((self.look(self.lumpy, z, y, x) / 0.13) ** 2))
