"""Reading real nodes' masks: orientation, place and size, and what is refused."""

import numpy as np
import pytest

from lnq.errors import ImageError
from phantom.insertion.collection import COLUMNS, read_collection


def test_nodes_have_their_size_place_and_patient(shapes):
    first, second, large = read_collection(shapes)
    assert (first.name, first.patient, large.patient) == ("001_01", "001", "002")
    assert first.short_axis_mm == pytest.approx(12.0, abs=0.8)
    assert large.short_axis_mm == pytest.approx(24.0, abs=0.8)
    np.testing.assert_allclose(first.centre_mm, (30.0, 20.0, 10.0), atol=1e-9)
    np.testing.assert_allclose(second.centre_mm - first.centre_mm, (0, 0, 11.0), atol=1e-9)


def test_axes_to_the_right_and_the_front_are_turned_to_left_and_back(tmp_path, write_shapes):
    """One voxel marked at the array's start lies farthest left, back and down of its box of 3, 5 and 7 voxels."""
    mask = np.zeros((3, 5, 7), bool)
    mask[0, 0, 0] = True
    folder = write_shapes(tmp_path, {"001_01": mask}, {"001_01": (100.0, 50.0, 10.0)}, (2.0, 0.5, 0.5))
    (node,) = read_collection(folder)
    assert np.argwhere(node.mask.array).tolist() == [[0, 4, 6]]
    np.testing.assert_allclose(node.centre_mm, (10.0 - 2.0, 50.0 + 2 * 0.5, 100.0 + 3 * 0.5))


def test_the_largest_part_is_kept(tmp_path, write_shapes):
    mask = np.zeros((4, 8, 8), bool)
    mask[:2, :2, :2] = True
    mask[3, 6:, 7] = True
    (node,) = read_collection(write_shapes(tmp_path, {"001_01": mask}, {"001_01": (0, 0, 0)}))
    assert node.mask.array.sum() == 8 and node.height_mm == 2.0


@pytest.fixture
def copy(tmp_path, write_shapes):
    return write_shapes(tmp_path, {"001_01": np.ones((2, 3, 5), bool)}, {"001_01": (0, 0, 0)})


@pytest.mark.parametrize("name", ["nodes.csv", "masks.npz"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ImageError, match=f"^{copy} holds no {name}$"):
        read_collection(copy)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(copy, column):
    table = copy / "nodes.csv"
    table.write_text(table.read_text().replace(column + ",", "other,", 1))
    with pytest.raises(ImageError, match=f"nodes.csv lacks the column {column}$"):
        read_collection(copy)


@pytest.mark.parametrize(
    ("replaced", "by", "message"),
    [
        ("001_01,2,3,5", "001_01,2,3,9", "^node 001_01 has another number of bits than its box of 54$"),
        ("001_01,2,3,5", "001_02,2,3,5", "^masks.npz lacks node 001_02$"),
        ("001_01,2,3,5", "001_01,2,3,x", "^the row of node 001_01 holds something else than numbers$"),
        (",1.0,0.8", ",0.0,0.8", "^node 001_01 has no positive spacing or lies askew in its patient$"),
        ("-1,0,0,0", "0,-1,0,0", "^node 001_01 has no positive spacing or lies askew in its patient$"),
    ],
)
def test_a_wrong_row_is_refused(copy, replaced, by, message):
    table = copy / "nodes.csv"
    assert replaced in table.read_text()
    table.write_text(table.read_text().replace(replaced, by, 1))
    with pytest.raises(ImageError, match=message):
        read_collection(copy)


def test_an_empty_mask_is_refused(tmp_path, write_shapes):
    folder = write_shapes(tmp_path, {"001_01": np.zeros((2, 3, 5), bool)}, {"001_01": (0, 0, 0)})
    with pytest.raises(ImageError, match="^the mask of node 001_01 is empty$"):
        read_collection(folder)


def test_a_file_that_is_no_archive_is_refused(copy):
    (copy / "masks.npz").write_bytes(b"PK nothing")
    with pytest.raises(ImageError, match="masks.npz is no archive of masks$"):
        read_collection(copy)
