import numpy as np
import pytest

from phantom.shapes import Pose, Structure, ellipsoid, spline_tube
from phantom.slab import Slab


def slab(pose: Pose | None = None) -> Slab:
    axis = np.arange(-20.0, 20.5, 0.5)
    return Slab(axis, axis, axis, pose or Pose(), edge_mm=0.5)


def test_straight_tube_fills_the_volume_of_a_cylinder():
    tube = spline_tube([(0, 0, -40), (0, 0, 40)], [6, 6])
    occupancy, _ = slab().occupancy(Structure("tube", 100, (tube,)))
    assert occupancy.sum() * 0.125 == pytest.approx(np.pi * 36 * 40.5, rel=0.02)


def test_later_structures_cover_earlier_ones():
    s = slab()
    s.paint(Structure("large", 50, (), (ellipsoid((0, 0, 0), (10, 10, 10)),)))
    s.paint(Structure("small", 200, (), (ellipsoid((0, 0, 0), (4, 4, 4)),), solid=False))
    assert s.hu[40, 40, 40] == 200 and s.hu[40, 40, 56] == 50 and s.hu[40, 40, 70] == -1000
    assert s.solid[40, 40, 40] == 1 and s.solid[40, 40, 70] == 0


def test_posed_structure_is_painted_whole():
    pose = Pose(roll_rad=0.3, shift_mm=(4.0, 2.0), lean=(0.05, 0.05))
    tube = spline_tube([(-9, 0, 0), (9, 0, 0)], [3, 3])
    for p in (pose, Pose()):
        occupancy, _ = slab(p).occupancy(Structure("tube", 100, (tube,)))
        assert occupancy.sum() * 0.125 == pytest.approx(np.pi * 9 * 18 + 4 / 3 * np.pi * 27, rel=0.03)
