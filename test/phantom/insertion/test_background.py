"""What is found in a CT before nodes are inserted."""

import numpy as np
import pytest

from lnq.errors import ImageError
from lnq.image.volume import Volume, make_affine
from phantom.insertion import background as module
from phantom.insertion.background import study_background
from phantom.insertion.tissue import AIRWAY, FAT, LUNG, Between


def test_a_ct_without_lungs_is_refused():
    array = np.full((20, 64, 64), 40, dtype=np.int16)
    with pytest.raises(ImageError, match="nodes can only be inserted into a CT with two lungs"):
        study_background(Volume(array, make_affine((5.0, 5.0, 5.0))))


def test_tissues_of_a_phantom_are_found(background, without_contrast):
    hu, classes = without_contrast.ct.array, background.classes
    assert np.median(hu[classes == LUNG]) < -700
    assert -130 < np.median(hu[classes == FAT]) < -60
    assert np.median(hu[classes == AIRWAY]) < -900
    z, y, x = background.candidates.T
    assert (hu[z, y, x] < 20).mean() > 0.9
    assert background.phase == "none" and 30 < background.soft_hu < 60
    assert background.sites


def test_the_carina_of_a_phantom_is_the_origin_of_its_frame(background):
    """The reference patient's is, and this one is at most 20 % larger or smaller."""
    position = background.ct.affine @ [*background.carina, 1.0]
    assert np.abs(position[:3]).max() < 15
    np.testing.assert_allclose(background.lungs_mm, (235, 210, 270), rtol=0.2)


def test_below_the_hila_nodes_lie_near_the_midline():
    """A box between the lungs, 40 slices high: below 62 % of it from the apex, 30 mm to each side are left."""
    region = np.zeros((40, 50, 120), bool)
    region[:, :, 10:110] = True
    used = module._stations(Between.of(region, 59.5, 1.5))
    columns = [np.flatnonzero(used[z].any(axis=0)) for z in range(40)]
    assert [(c[0], c[-1]) for c in columns[20:]] == [(10, 109)] * 20
    assert [(c[0], c[-1]) for c in columns[:14]] == [(40, 79)] * 14  # 59.5 is the middle, 20 columns are 30 mm
