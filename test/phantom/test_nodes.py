import numpy as np
import pytest

from phantom.nodes import KINDS, Ellipsoid, NodeShape, draw_kind, draw_node, draw_node_hu, draw_short_axis_mm


def oval(z_mm: float, y_mm: float, x_mm: float) -> NodeShape:
    """A plain node with these semi axes along the image's axes."""
    main = Ellipsoid(np.zeros(3), np.diag([1 / z_mm, 1 / y_mm, 1 / x_mm]))
    none = np.zeros((0, 3)), np.zeros(0)
    return NodeShape("plain", 2 * min(y_mm, x_mm), main, (), 0.0, *none, None, 0.0, max(z_mm, y_mm, x_mm) + 1)


def grid(reach_mm: float, step_mm: float) -> np.ndarray:
    axis = np.arange(-reach_mm, reach_mm + step_mm / 2, step_mm)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def minor_axis_mm(section: np.ndarray, step_mm: float) -> float:
    """Minor axis of a filled ellipse from its second moments (a quarter of the squared semi axes)."""
    points = np.argwhere(section) * step_mm
    return float(4 * np.sqrt(np.linalg.eigvalsh(np.cov(points.T))[0]))


def test_volume_of_an_ellipsoid_is_the_closed_form():
    occupancy, _ = oval(6, 4, 3).render(grid(7, 0.4))
    assert occupancy.sum() * 0.4**3 == pytest.approx(4 / 3 * np.pi * 6 * 4 * 3, rel=0.02)


def test_distance_to_a_sphere_is_exact():
    distance = oval(5, 5, 5).signed_distance(np.array([[0, 0, 8.0], [0, 2.0, 0], [3.0, 0, 4.0]]))
    np.testing.assert_allclose(distance, [3.0, -3.0, 0.0], atol=1e-4)


def test_half_of_the_surface_voxel_is_filled():
    occupancy, _ = oval(5, 5, 5).render(np.array([[0, 0, 5.0], [0, 0, 4.0], [0, 0, 6.0]]))
    np.testing.assert_allclose(occupancy, [0.5, 1.0, 0.0], atol=1e-3)


@pytest.mark.parametrize("size_mm", [4.0, 9.0, 18.0])
def test_short_axis_is_the_minor_axis_of_the_central_axial_section(size_mm):
    for seed in range(8):
        node = draw_node(np.random.default_rng(seed), size_mm)
        step = size_mm / 60
        axis = np.arange(-node.reach_mm, node.reach_mm, step)
        y, x = np.meshgrid(axis, axis, indexing="ij")
        central = node.main.signed_distance(np.stack([0 * y, y, x], axis=-1)) <= 0
        assert minor_axis_mm(central, step) == pytest.approx(size_mm, rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_shape_lies_within_its_reach(kind):
    for seed in range(10):
        node = draw_node(np.random.default_rng(seed), 12.0, kind)
        points = grid(node.reach_mm + 4, 1.0)
        beyond = np.linalg.norm(points, axis=-1) > node.reach_mm
        assert not node.render(points[beyond])[0].any()


def test_fatty_hilum_and_necrosis_lower_the_hu_inside_only():
    for kind, low, high in (("fatty_hilum", -151, -89), ("necrotic", -61, -29)):
        node = draw_node(np.random.default_rng(3), 14.0, kind)
        occupancy, offset = node.render(grid(node.reach_mm, 1.0))
        assert low < offset[occupancy == 1].min() < high
        assert (offset <= 0).all()
    assert not draw_node(np.random.default_rng(3), 14.0, "plain").render(grid(9, 1.0))[1].any()


def test_same_generator_gives_the_same_node():
    first, second = (draw_node(np.random.default_rng(5), 10.0).render(grid(12, 1.0)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_sizes_are_mostly_4_to_12_mm_with_a_tail_to_20():
    rng = np.random.default_rng(0)
    sizes = np.array([draw_short_axis_mm(rng) for _ in range(2000)])
    assert sizes.min() >= 3.0 and sizes.max() <= 20.0
    assert np.mean((sizes >= 4) & (sizes <= 12)) > 0.75
    assert 0.01 < np.mean(sizes > 14) < 0.1


def test_nodes_enhance_with_contrast():
    rng = np.random.default_rng(0)
    native, venous = ([draw_node_hu(rng, phase) for _ in range(200)] for phase in ("none", "venous"))
    assert 30 < np.mean(native) < 50 and 75 < np.mean(venous) < 100


def test_bad_kind_and_size_are_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        draw_node(np.random.default_rng(0), 8.0, "round")
    with pytest.raises(ValueError, match="must be positive, not 0"):
        draw_node(np.random.default_rng(0), 0.0)


def test_small_and_large_nodes_have_no_fatty_hilum_and_small_ones_no_necrosis():
    def kinds(size_mm: float) -> set[str]:
        rng = np.random.default_rng(0)
        return {draw_kind(rng, size_mm) for _ in range(200)}

    assert kinds(5.0) == {"plain"}
    assert kinds(8.0) == {"plain", "fatty_hilum"}
    assert kinds(15.0) == set(KINDS)
    assert kinds(30.0) == {"plain", "necrotic"}
