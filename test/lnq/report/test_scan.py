import gzip

import numpy as np
import pytest
from scipy import ndimage

from lnq.image.itk import read_volume
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume, make_affine
from lnq.report.scan import coarsened_mm, make_scan, nifti

WHOLE = (slice(None), slice(None), slice(None))


def test_voxels_keep_their_place_and_their_hu_within_the_window(tmp_path, thorax, node_labels):
    scan = make_scan(thorax, node_labels, WHOLE, 10**6)
    (tmp_path / "ct.nii").write_bytes(gzip.decompress(scan.packed_levels()))
    (tmp_path / "nodes.nii").write_bytes(gzip.decompress(scan.packed_labels()))
    ct, _ = reorient_to_lps(read_volume(tmp_path / "ct.nii"))
    nodes, _ = reorient_to_lps(read_volume(tmp_path / "nodes.nii"))
    np.testing.assert_allclose(ct.affine, thorax.affine, atol=1e-4)
    np.testing.assert_allclose(ct.array, np.clip(thorax.array, -160, 240), atol=1)
    np.testing.assert_array_equal(nodes.array, node_labels.array)
    assert not scan.is_coarser


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_same_of_a_ct_that_is_stored_otherwise(thorax, node_labels, axis):
    """Flipped along one axis, and with the axes in another order."""

    def stored(volume: Volume) -> Volume:
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, axis] * (volume.shape[axis] - 1)
        affine[:3, axis] *= -1
        return Volume(np.flip(volume.array, axis).transpose(2, 0, 1), affine[:, [2, 0, 1, 3]])

    scan = make_scan(thorax, node_labels, None, 10**6)
    other = make_scan(stored(thorax), stored(node_labels), None, 10**6)
    assert other.packed_levels() == scan.packed_levels()
    assert other.packed_labels() == scan.packed_labels()


def test_an_oblique_ct_stays_where_it_is(tmp_path, thorax, node_labels):
    turn = np.eye(4)
    turn[:2, :2] = [[0.96, -0.28], [0.28, 0.96]]
    oblique = Volume(thorax.array, turn @ thorax.affine)
    scan = make_scan(oblique, Volume(node_labels.array, oblique.affine), WHOLE, 10**6)
    (tmp_path / "nodes.nii").write_bytes(nifti(scan.labels))
    nodes, _ = reorient_to_lps(read_volume(tmp_path / "nodes.nii"))
    np.testing.assert_allclose(nodes.affine, oblique.affine, atol=1e-4)


def test_a_mark_lies_in_its_node(thorax, node_labels):
    scan = make_scan(thorax, node_labels, None, 10**6)
    marks = scan.marks()
    assert [mark["number"] for mark in marks] == [1, 2, 3]
    for mark in marks:
        assert scan.labels.array[tuple(mark["voxel"])] == mark["number"]
        box = tuple(slice(a, b + 1) for a, b in zip(mark["first"], mark["last"], strict=True))
        inside = scan.labels.array == mark["number"]
        assert inside[box].sum() == inside.sum()


def test_a_mark_of_a_node_that_is_no_convex_one_lies_in_it():
    array = np.zeros((3, 9, 9), np.int16)
    array[1, 1:8, 1:8] = 1
    array[1, 2:7, 2:7] = 0
    volume = Volume(array, make_affine((1, 1, 1)))
    scan = make_scan(volume, volume, WHOLE, 10**6)
    assert scan.labels.array[tuple(scan.marks()[0]["voxel"])] == 1


@pytest.mark.parametrize(
    ("spacing_mm", "expected"),
    [((1.0, 0.5, 0.5), (2.0, 1.0, 1.0)), ((5.0, 0.5, 0.5), (5.0, 0.63, 0.63)), ((0.5, 0.5, 0.5), (1.26, 0.63, 0.63))],
)
def test_too_many_voxels_become_coarser_where_they_are_finest(spacing_mm, expected):
    extent = np.array((100.0, 100.0, 100.0))
    shape = np.round(extent / spacing_mm).astype(int)
    image = Volume(np.zeros(shape, np.uint8), make_affine(spacing_mm))
    found = coarsened_mm(image, int(np.prod(extent / expected)))
    np.testing.assert_allclose(found, expected, rtol=0.03)
    assert coarsened_mm(image, image.array.size) == pytest.approx(spacing_mm)


def test_coarser_voxels_keep_even_a_tiny_node():
    labels = np.zeros((20, 20, 20), np.int16)
    labels[4:12, 4:12, 4:12] = 1
    labels[17, 17, 17] = 2
    grid = Volume(labels, make_affine((1, 1, 1), (5, 6, 7)))
    scan = make_scan(grid.with_array(np.full(labels.shape, 40, np.int16)), grid, WHOLE, 1000)
    assert scan.is_coarser
    assert [mark["number"] for mark in scan.marks()] == [1, 2]
    assert np.count_nonzero(scan.labels.array == 2) == 1
    size_mm3 = np.count_nonzero(scan.labels.array == 1) * scan.labels.voxel_volume_mm3
    assert size_mm3 == pytest.approx(512, rel=0.35)
    where = scan.labels.affine @ [*np.argwhere(scan.labels.array == 2)[0], 1]
    np.testing.assert_allclose(where[:3], (5 + 17, 6 + 17, 7 + 17), atol=2)


def test_coarser_nodes_have_no_holes_and_keep_their_size():
    z, y, x = np.indices((40, 60, 60))
    labels = np.int16(((z - 20) * 1.0) ** 2 + ((y - 30) * 0.7) ** 2 + ((x - 30) * 0.7) ** 2 <= 12**2)
    labels[:, :, 31:] *= 2
    volume = Volume(labels, make_affine((1.0, 0.7, 0.7)))
    scan = make_scan(volume, volume, WHOLE, 30_000)
    found = scan.labels.array > 0
    assert scan.is_coarser
    assert (ndimage.binary_fill_holes(found) == found).all()
    for number in (1, 2):
        size_mm3 = np.count_nonzero(scan.labels.array == number) * scan.labels.voxel_volume_mm3
        assert size_mm3 == pytest.approx(np.count_nonzero(labels == number) * 0.49, rel=0.05)


def test_without_a_box_it_is_around_the_nodes_or_the_whole_ct(thorax, node_labels):
    none = thorax.with_array(np.zeros(thorax.shape, np.int16))
    assert make_scan(thorax, none, None, 10**6).levels.shape == thorax.shape
    assert make_scan(thorax, node_labels, None, 10**6).levels.array.size < thorax.array.size
    assert make_scan(thorax, node_labels, (slice(4, 9), *WHOLE[1:]), 10**6).levels.shape == (5, *thorax.shape[1:])


def test_labels_of_another_shape_are_refused(thorax):
    other = Volume(np.zeros((2, 2, 2), np.int16), thorax.affine)
    with pytest.raises(ValueError, match="The labels' shape .* is not the CT's"):
        make_scan(thorax, other, None, 10**6)
