import numpy as np
import pytest

from phantom.shapes import Pose, Slab, Structure, aligned, ellipsoid, spline_tube


def slab(pose: Pose | None = None) -> Slab:
    axis = np.arange(-20.0, 20.5, 0.5)
    return Slab(axis, axis, axis, pose or Pose(), edge_mm=0.5)


def test_straight_tube_fills_the_volume_of_a_cylinder():
    tube = spline_tube([(0, 0, -40), (0, 0, 40)], [6, 6])
    occupancy, _ = slab().occupancy(Structure("tube", 100, (tube,)))
    assert occupancy.sum() * 0.125 == pytest.approx(np.pi * 36 * 40.5, rel=0.02)


def test_tube_passes_through_its_control_points():
    tube = spline_tube([(0, 0, 0), (10, 5, 0), (20, 0, 8)], [2, 2, 2])
    nodes = np.concatenate([tube.start, tube.end[-1:]])
    for x, y, z in [(0, 0, 0), (10, 5, 0), (20, 0, 8)]:
        assert np.linalg.norm(nodes - [z, y, x], axis=1).min() < 1e-9


def test_later_structures_cover_earlier_ones():
    s = slab()
    s.paint(Structure("large", 50, (), (ellipsoid((0, 0, 0), (10, 10, 10)),)))
    s.paint(Structure("small", 200, (), (ellipsoid((0, 0, 0), (4, 4, 4)),), solid=False))
    assert s.hu[40, 40, 40] == 200 and s.hu[40, 40, 56] == 50 and s.hu[40, 40, 70] == -1000
    assert s.solid[40, 40, 40] == 1 and s.solid[40, 40, 70] == 0


def test_pose_moves_points_and_back():
    pose = Pose(roll_rad=0.1, shift_mm=(5.0, -3.0), lean=(0.05, -0.02))
    points = np.array([[10.0, -20.0, 30.0], [-40.0, 5.0, 0.0]])
    image = pose.to_image(points)
    y, x = pose.to_patient(image[:, 0], image[:, 1], image[:, 2])
    np.testing.assert_allclose(np.stack([image[:, 0], y, x], axis=-1), points, atol=1e-4)  # float32 mm


def test_posed_structure_is_painted_whole():
    pose = Pose(roll_rad=0.3, shift_mm=(4.0, 2.0), lean=(0.05, 0.05))
    tube = spline_tube([(-9, 0, 0), (9, 0, 0)], [3, 3])
    for p in (pose, Pose()):
        occupancy, _ = slab(p).occupancy(Structure("tube", 100, (tube,)))
        assert occupancy.sum() * 0.125 == pytest.approx(np.pi * 9 * 18 + 4 / 3 * np.pi * 27, rel=0.03)


def test_aligned_lays_the_long_axis_along_the_direction():
    rotation = aligned(np.array([1.0, -2.0, 0.5]))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    long = ellipsoid((0, 0, 0), (3, 3, 9), rotation)
    direction = np.array([0.5, -2.0, 1.0]) / np.linalg.norm([0.5, -2.0, 1.0])  # z, y, x
    assert abs(long.signed_distance((9 * direction)[None].astype(np.float32))[0]) < 1e-3
