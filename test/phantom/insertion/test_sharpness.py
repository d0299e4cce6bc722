"""The sharpness of a CT."""

import numpy as np
import pytest
from scipy import ndimage

from lnq.image.volume import Volume, make_affine
from phantom.insertion.sharpness import edge_sigma_mm


@pytest.mark.parametrize("sigma_mm", [0.5, 0.8, 1.1])
def test_sharpness_of_a_blurred_step_is_its_sigma(sigma_mm):
    spacing = (3.0, 0.5, 0.5)
    array = np.full((4, 64, 128), -850.0, dtype=np.float32)
    array[:, :, 64:] = 50.0
    blurred = ndimage.gaussian_filter1d(array, sigma_mm / spacing[2], axis=2)
    volume = Volume(np.rint(blurred).astype(np.int16), make_affine(spacing))
    assert edge_sigma_mm(volume) == pytest.approx(sigma_mm, rel=0.15)


def test_without_an_edge_it_is_usual():
    assert edge_sigma_mm(Volume(np.zeros((4, 64, 64), np.int16), make_affine((1, 1, 1)))) == 0.7
