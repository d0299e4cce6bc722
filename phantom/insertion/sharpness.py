"""How sharp a CT is, measured at the lungs' surfaces."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lnq.image.volume import Volume


def edge_sigma_mm(volume: Volume) -> float:
    """In-plane blur as the sigma of a Gaussian: step height / (steepest slope * sqrt(2 pi)) across lung surfaces.

    It is measured along x where a voxel of lung (below -700 HU) and one of soft tissue (above 0) lie within 6 mm. Where
    there is none, it is 0.7 mm.
    """
    step = max(2, round(6.0 / volume.spacing_mm[2]))
    hu = volume.array[:, ::4].astype(np.float32)
    a, b = hu[:, :, :-step], hu[:, :, step:]
    edge = (np.minimum(a, b) < -700) & (np.maximum(a, b) > 0) & (np.maximum(a, b) < 200) & (np.minimum(a, b) > -950)
    slope = np.abs(np.diff(hu, axis=2))  # [Z, Y, X - 1]
    steepest = ndimage.maximum_filter1d(slope, step, axis=2, origin=-(step // 2))[:, :, : a.shape[2]]
    if not edge.any():
        return 0.7
    sigma = np.abs(a - b)[edge] / (steepest[edge] * np.sqrt(2 * np.pi)) * volume.spacing_mm[2]
    return float(np.clip(np.percentile(sigma, 25), 0.3, 1.2))
