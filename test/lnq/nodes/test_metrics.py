import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from lnq.image.volume import Volume, make_affine
from lnq.nodes.metrics import assd_mm, dice, false_components, node_detection

SPACING_MM = (3.0, 1.0, 0.5)


def volume(array: np.ndarray) -> Volume:
    return Volume(array.astype(np.uint8), make_affine(SPACING_MM))


def ellipsoid(radii_mm: tuple[float, float, float], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Off the grid's centre by a third of a voxel, as real nodes are."""
    shape = [2 * math.ceil(r / s) + 5 for r, s in zip(radii_mm, spacing_mm, strict=True)]
    index = np.indices(shape)
    parts = [(index[i] - (shape[i] - 1) / 2 + 1 / 3) * spacing_mm[i] / radii_mm[i] for i in range(3)]
    return sum(p**2 for p in parts) <= 1


@given(arrays(bool, (3, 4, 5)), arrays(bool, (3, 4, 5)))
@settings(max_examples=50, deadline=None)
def test_dice_is_simpleitk_s(a, b):
    if not (a.any() or b.any()):
        return
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (b, a)))
    assert dice(a, b) == pytest.approx(measures.GetDiceCoefficient())


def test_dice_of_small_sets():
    a, b = np.array([[[1, 1, 0, 0]]]), np.array([[[0, 1, 1, 1]]])
    assert dice(a, b) == pytest.approx(2 / 5)
    assert dice(a * 7, b) == pytest.approx(2 / 5)  # any label counts
    assert dice(a, a * 0) == 0
    assert dice(a * 0, a * 0) == 1


def test_assd_of_two_single_voxels_is_their_distance():
    a, b = np.zeros((2, 5, 9, 9), np.uint8)
    a[1, 2, 2], b[1, 5, 2] = 1, 1
    assert assd_mm(volume(a), volume(b)) == pytest.approx(3.0)
    b[:] = 0
    b[2, 2, 4] = 1  # 3 mm up, 2 * 0.5 mm to the left
    assert assd_mm(volume(a), volume(b)) == pytest.approx(math.sqrt(10))


def test_assd_halves_the_two_means():
    a, b = np.zeros((2, 3, 7, 7), np.uint8)
    a[1, 1, 1] = 1
    b[1, 1, 1] = b[1, 5, 1] = 1  # 0 mm one way; 0 and 4 mm the other
    assert assd_mm(volume(a), volume(b)) == pytest.approx(0 / 2 + 2 / 2)


def test_assd_of_identical_and_empty_masks():
    mask = np.zeros((5, 9, 9), np.uint8)
    assert assd_mm(volume(mask), volume(mask)) == 0
    filled = mask.copy()
    filled[1:4, 2:7, 2:7] = 1
    assert assd_mm(volume(filled), volume(filled)) == 0
    assert math.isnan(assd_mm(volume(filled), volume(mask)))
    assert math.isnan(assd_mm(volume(mask), volume(filled)))


def test_assd_of_nested_cubes_by_hand():
    """Contours lie on the outermost voxels. The inner one has 3 * 3 * 3 - 1 voxels, the outer is 2 voxels
    away."""
    affine = make_affine((1, 1, 1))
    inner, outer = np.zeros((2, 15, 15, 15), np.uint8)
    inner[6:9, 6:9, 6:9] = 1
    outer[4:11, 4:11, 4:11] = 1
    contour = np.argwhere(outer)
    contour = contour[(np.abs(contour - 7) == 3).any(axis=1)]
    shell = np.argwhere(inner)
    shell = shell[(np.abs(shell - 7) == 1).any(axis=1)]
    distance = np.linalg.norm(contour[:, None] - shell[None], axis=2)
    expected = distance.min(axis=0).mean() / 2 + distance.min(axis=1).mean() / 2
    assert assd_mm(Volume(inner, affine), Volume(outer, affine)) == pytest.approx(expected, rel=1e-5)


def test_assd_does_not_depend_on_empty_space_around():
    rng = np.random.default_rng(0)
    a, b = np.zeros((2, 20, 30, 30), np.uint8)
    a[5:9, 10:16, 10:15] = 1
    b[6:11, 11:18, 9:16] = rng.integers(0, 2, (5, 7, 7))
    box = (slice(3, 15), slice(6, 25), slice(5, 22))
    assert assd_mm(volume(a), volume(b)) == pytest.approx(assd_mm(volume(a[box]), volume(b[box])))


def test_assd_refuses_grids_of_two_shapes():
    with pytest.raises(ValueError, match=r"one shape, not \(2, 2, 2\) and \(3, 3, 3\)"):
        assd_mm(volume(np.ones((2, 2, 2))), volume(np.ones((3, 3, 3))))


def test_a_node_is_found_by_a_fifth_of_its_voxels():
    instances = np.zeros((3, 6, 12), np.uint16)
    instances[1, 1, 0:10] = 1
    instances[1, 4, 0:10] = 3  # label 2 does not occur
    prediction = np.zeros(instances.shape, np.uint8)
    prediction[1, 1, 0:2] = 1
    prediction[1, 4, 0:1] = 1
    first, second = node_detection(prediction, instances, SPACING_MM)
    assert (first.label, first.found) == (1, True)
    assert (second.label, second.found) == (3, False)
    assert first.volume_mm3 == pytest.approx(10 * 1.5)
    assert first.short_axis_mm == pytest.approx(1.0)  # a row of voxels of 1 mm from front to back


def test_no_nodes_no_results():
    empty = np.zeros((2, 3, 4), np.uint16)
    assert node_detection(empty, empty, SPACING_MM) == []
    assert false_components(empty, empty) == 0


def test_a_false_component_shares_no_voxel_with_a_node():
    instances = np.zeros((5, 8, 8), np.uint16)
    instances[1, 1, 1:4] = 1
    prediction = np.zeros(instances.shape, np.uint8)
    prediction[1, 1, 3:5] = 1  # overlaps the node
    prediction[2, 2, 5] = 1  # touches that component at a corner: the same one
    prediction[1, 3, 1] = 1  # beside the node
    prediction[4, 7, 7] = 1
    assert false_components(prediction, instances) == 2
