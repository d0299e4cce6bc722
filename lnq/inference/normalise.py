"""HU -> the units the network was trained in (METHOD section 2)."""

import numpy as np

from lnq.inference.spec import Normalisation


def normalise(
    array_hu: np.ndarray, normalisation: Normalisation, mean_std: tuple[float, float] | None = None
) -> np.ndarray:
    """Normalise an array in HU; float32 of the same shape, without unit.

    `zscore` uses the array's own mean and deviation, or `mean_std` where the array is a part of its volume. A constant
    array gives 0. `ct` clips to `clip_hu`, then uses the mean and deviation of the training labels' voxels.
    """
    if normalisation.kind == "zscore":
        mean, std = mean_std or (float(array_hu.mean(dtype=np.float64)), float(array_hu.std(dtype=np.float64)))
        out = array_hu.astype(np.float32)
    else:
        assert normalisation.clip_hu is not None  # The specification checks this itself.
        mean, std = normalisation.mean, normalisation.std
        out = np.clip(array_hu, *normalisation.clip_hu, dtype=np.float32)
    out -= np.float32(mean)
    out /= np.float32(max(std, 1e-6))
    return out
