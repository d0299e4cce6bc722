import numpy as np

from phantom.shapes import Pose, aligned, ellipsoid, spline_tube


def test_tube_passes_through_its_control_points():
    tube = spline_tube([(0, 0, 0), (10, 5, 0), (20, 0, 8)], [2, 2, 2])
    nodes = np.concatenate([tube.start, tube.end[-1:]])
    for x, y, z in [(0, 0, 0), (10, 5, 0), (20, 0, 8)]:
        assert np.linalg.norm(nodes - [z, y, x], axis=1).min() < 1e-9


def test_pose_moves_points_and_back():
    pose = Pose(roll_rad=0.1, shift_mm=(5.0, -3.0), lean=(0.05, -0.02))
    points = np.array([[10.0, -20.0, 30.0], [-40.0, 5.0, 0.0]])
    image = pose.to_image(points)
    y, x = pose.to_patient(image[:, 0], image[:, 1], image[:, 2])
    np.testing.assert_allclose(np.stack([image[:, 0], y, x], axis=-1), points, atol=1e-4)  # float32 mm


def test_aligned_lays_the_long_axis_along_the_direction():
    rotation = aligned(np.array([1.0, -2.0, 0.5]))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    long = ellipsoid((0, 0, 0), (3, 3, 9), rotation)
    direction = np.array([0.5, -2.0, 1.0]) / np.linalg.norm([0.5, -2.0, 1.0])  # z, y, x
    assert abs(long.signed_distance((9 * direction)[None].astype(np.float32))[0]) < 1e-3
