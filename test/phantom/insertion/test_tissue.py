"""What lies between the lungs, by class."""

import numpy as np
import pytest

from phantom.insertion.tissue import AIRWAY, BONE, DEEP, FAT, LUNG, SOFT, WALL, Between, classify

SPACING_MM = (2.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def chest():
    """Fat of 60 x 100 mm between two lungs, with a heart, a trachea, a vertebra and a vessel in the left lung."""
    smooth = np.full((20, 100, 160), -850.0, np.float32)
    region = np.zeros(smooth.shape, bool)
    region[:, :, 50:110] = True
    smooth[region] = -100.0
    smooth[:, 20:50, 65:95] = 300.0  # blood with contrast medium
    smooth[:, 55:69, 73:87] = -1000.0  # 196 mm2
    smooth[:, 75:, 65:95] = 90.0  # marrow
    smooth[:, 30:34, 130:134] = 250.0
    allowed = np.zeros(smooth.shape, bool)
    allowed[:, :95, 40:120] = True
    return classify(smooth, Between.of(region, 79.5, 1.0), allowed, SPACING_MM)


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ((80, 55), FAT),
        ((35, 80), DEEP),  # the middle of the heart, bright as it is
        ((21, 80), SOFT),  # its rim
        ((60, 80), AIRWAY),
        ((85, 80), BONE),
        ((50, 20), LUNG),
        ((32, 132), BONE),  # bright and beside the region: not to be pushed
        ((97, 55), WALL),
    ],
)
def test_classes(chest, place, wanted):
    assert chest[10][place] == wanted


def test_depth_counts_from_the_front_and_height_from_the_top():
    region = np.zeros((10, 30, 20), bool)
    region[2:8, 5:25, 4:16] = True
    between = Between.of(region, 9.5, 2.0)
    assert between.depth[4, [5, 15], 0].tolist() == [0.0, 0.5]
    assert between.height[[7, 2], 0, 0].tolist() == [0.0, 1.0]
    assert between.from_midline_mm[0, 0, [4, 9, 10]].tolist() == [11.0, 1.0, 1.0]
