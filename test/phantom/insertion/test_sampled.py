"""A real node's shape: its volume, its distances, and what turning, mirroring and scaling do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantom.insertion.collection import read_collection
from phantom.insertion.sampled import distance_field, sample_shape
from phantom.nodes import rotation_of


def grid_of(reach_mm: float, step_mm: float) -> np.ndarray:
    axis = np.arange(-reach_mm, reach_mm + step_mm, step_mm)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


@pytest.fixture(scope="module")
def nodes(shapes):
    return read_collection(shapes)


@pytest.fixture(scope="module")
def long_to_the_left(tmp_path_factory, write_shapes):
    """A box of 6 x 8 x 16 mm with a nose on its left: array axes run to the right, so the nose is at the start."""
    mask = np.zeros((6, 10, 28), bool)
    mask[:, :, 8:] = True
    mask[2:4, 4:6, :8] = True
    folder = write_shapes(tmp_path_factory.mktemp("nose"), {"001_01": mask}, {"001_01": (0, 0, 0)})
    return read_collection(folder)[0]


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(4, 12)] * 3),
    st.tuples(st.sampled_from([1.0, 1.25, 2.5, 5.0]), st.floats(0.6, 1.0)),
)
def test_a_field_encloses_the_volume_of_its_mask(semi_axes_mm, spacing):
    spacing_mm = (spacing[0], spacing[1], spacing[1])
    axes = [np.arange(-14, 14.1, s) for s in spacing_mm]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    mask = (z / semi_axes_mm[0]) ** 2 + (y / semi_axes_mm[1]) ** 2 + (x / semi_axes_mm[2]) ** 2 <= 1
    field = distance_field(mask, spacing_mm)
    fine = field.look(grid_of(16.0, 0.5).astype(np.float32))
    assert (fine < 0).sum() * 0.5**3 == pytest.approx(mask.sum() * np.prod(spacing_mm), rel=0.06)


def test_distances_to_a_ball_are_those_to_its_surface(nodes):
    shape = sample_shape(np.random.default_rng(0), nodes[2], 1.0, np.eye(3), kind="plain")
    points = np.array([[0, 0, r] for r in (-20.0, -14.0, -12.0, 9.0, 12.0, 14.0, 30.0)])
    np.testing.assert_allclose(shape.signed_distance(points), [8, 2, 0, -3, 0, 2, 18], atol=1.0)
    assert shape.signed_distance(points).dtype == np.float32


@settings(max_examples=15, deadline=None)
@given(st.floats(0.3, 2.0), st.integers(0, 1000))
def test_scaling_scales_volume_short_axis_and_reach(long_to_the_left, scale, seed):
    rng = np.random.default_rng(seed)
    turned = rotation_of(rng.uniform(0, 6, 3))
    shape = sample_shape(rng, long_to_the_left, scale, turned, kind="plain")
    grid = grid_of(shape.reach_mm + 2 * scale, 0.5 * scale)
    inside = shape.signed_distance(grid) < 0
    mask = long_to_the_left.mask
    assert inside.sum() * (0.5 * scale) ** 3 == pytest.approx(
        mask.array.sum() * mask.voxel_volume_mm3 * scale**3, rel=0.06
    )
    assert shape.short_axis_mm == pytest.approx(long_to_the_left.short_axis_mm * scale)
    assert np.linalg.norm(grid[inside], axis=-1).max() <= shape.reach_mm


def test_a_shape_lies_as_in_its_patient_and_can_be_mirrored_and_turned(long_to_the_left):
    """The nose points to the left, which is +x. Mirrored it points to the right, turned by 90 degrees along y."""

    def nose(turned: np.ndarray) -> np.ndarray:
        shape = sample_shape(np.random.default_rng(0), long_to_the_left, 1.0, turned, kind="plain")
        ways = np.array([[0, 0, 1], [0, 0, -1], [0, 1, 0], [0, -1, 0.0]])
        farther = [(shape.signed_distance(np.arange(0, 25, 0.25)[:, None] * way) < 0).sum() for way in ways]
        return ways[int(np.argmax(farther))]

    assert nose(np.eye(3)).tolist() == [0, 0, 1]
    assert nose(np.diag([1.0, 1.0, -1.0])).tolist() == [0, 0, -1]
    quarter = rotation_of(np.array([np.pi / 2, 0, 0]))
    np.testing.assert_allclose(nose(quarter), np.round(quarter @ [0, 0, 1]), atol=1e-9)


def test_render_is_half_on_the_surface_and_necrosis_is_darker_inside(nodes):
    shape = sample_shape(np.random.default_rng(0), nodes[2], 1.0, np.eye(3), kind="necrotic")
    surface = np.array([[0, 0, r] for r in np.arange(10, 14, 0.05)])
    at = surface[np.abs(shape.signed_distance(surface)).argmin()]
    occupancy, offset = shape.render(np.array([at, np.zeros(3), [0, 0, 30.0]]), edge_mm=0.8)
    np.testing.assert_allclose(occupancy, [0.5, 1, 0], atol=0.05)
    assert offset[1] < -25 and offset[2] == 0
