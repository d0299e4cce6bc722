from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine
from training.scoring.truths import Truth, find_truths, read_instances, read_prediction, refuse_other_grid

GRID = Volume(np.zeros((4, 10, 10), np.uint8), make_affine((2.0, 1.0, 1.0)))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes two blocks, of the given values, to a path below the test's folder."""

    def write(name: str, *values: int) -> Path:
        array = np.zeros(GRID.shape, np.int16)
        array[:2, :3, :3], array[2:, 6:, 6:] = values or (1, 1)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(GRID.with_array(array), path)
        return path

    return write


def test_instances_come_from_the_nodes_file_before_the_labels(tmp_path: Path, write: Callable[..., Path]) -> None:
    for name in ("a-ct.nrrd", "a-seg.nrrd", "b-ct.mha", "b-seg.nii.gz"):
        write(name)
    write("a-nodes.nrrd", 3, 5)
    (first, second), left_out = find_truths([tmp_path])
    assert (first.case, first.path.name, first.ct) == ("a", "a-nodes.nrrd", tmp_path / "a-ct.nrrd")
    assert (second.case, second.path.name, second.ct) == ("b", "b-seg.nii.gz", tmp_path / "b-ct.mha")
    assert left_out == {}
    assert set(np.unique(read_instances(first.path).array)) == {0, 3, 5}
    assert read_instances(second.path).array.max() == 2  # two components


def test_ct_without_truth_is_left_out_and_named(tmp_path: Path, write: Callable[..., Path]) -> None:
    write("a-ct.nrrd")
    reason = "a-ct.nrrd has neither a-nodes nor a-seg beside it"
    with pytest.raises(ValueError, match=f"No CT named <case>-ct with its truth in {tmp_path}; {reason}$"):
        find_truths([tmp_path])
    write("b-ct.nrrd")
    write("b-seg.nrrd")
    truths, left_out = find_truths([tmp_path])
    assert [t.case for t in truths] == ["b"] and left_out == {"a": reason}


def test_truth_without_ct_serves_where_none_is_needed(tmp_path: Path, write: Callable[..., Path]) -> None:
    write("a-seg.nrrd")
    write("b.mha")
    truths, _ = find_truths([tmp_path], need_ct=False)
    assert [(t.case, t.path.name, t.ct) for t in truths] == [("a", "a-seg.nrrd", None), ("b", "b.mha", None)]
    with pytest.raises(ValueError, match="No CT named <case>-ct with its truth in"):
        find_truths([tmp_path])


def test_cases_of_one_name_are_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    for name in ("one/a-seg.nrrd", "two/a-seg.nrrd", "three/a.mha", "three/a.nrrd"):
        write(name)
    folders = [tmp_path / name for name in ("one", "two")]
    wanted = f"{folders[0]}/a-seg.nrrd and {folders[1]}/a-seg.nrrd are of one name: score their folders one by one"
    with pytest.raises(ValueError, match=f"^{wanted}$"):
        find_truths(folders, need_ct=False)
    with pytest.raises(ValueError, match=r"three/a.mha and a.nrrd are of one name: keep one$"):
        find_truths([tmp_path / "three"], need_ct=False)
    with pytest.raises(ValueError, match=r"four is no folder$"):
        find_truths([tmp_path / "four"])


@pytest.mark.parametrize("name", ["a.nii.gz", "a-ct.mha", "a/segmentation.nrrd", "a-ct/segmentation.mha"])
def test_prediction_is_found_by_the_case_or_its_ct(tmp_path: Path, write: Callable[..., Path], name: str) -> None:
    truth = Truth("a", write("truth/a-seg.nrrd"), write("truth/a-ct.nrrd"))
    write(f"masks/{name}", 1, 0)
    assert read_prediction(tmp_path / "masks", truth).array.sum() == 2 * 9


def test_prediction_that_is_none_is_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    truth = Truth("a", write("truth/a-seg.nrrd"), write("truth/a-ct.nrrd"))
    masks = tmp_path / "masks"
    with pytest.raises(ValueError, match=r"no prediction for it, named a.<ext>, a-ct.<ext> or a/segmentation.<ext>$"):
        read_prediction(masks, truth)
    with pytest.raises(ValueError, match=r"a-ct.nrrd is its truth or its CT, not a prediction$"):
        read_prediction(tmp_path / "truth", truth)
    write("masks/a.nrrd", -1000, 40)
    with pytest.raises(ValueError, match=r"^a.nrrd is no mask: it has values below 0 or between whole numbers$"):
        read_prediction(masks, truth)
    write("masks/a/segmentation.mha")
    with pytest.raises(ValueError, match=r"two predictions for it, a/segmentation.mha and a.nrrd$"):
        read_prediction(masks, truth)


def test_probabilities_are_no_mask(tmp_path: Path, write: Callable[..., Path]) -> None:
    write_volume(GRID.with_array(np.full(GRID.shape, 0.5, np.float32)), tmp_path / "a.mha")
    with pytest.raises(ValueError, match=r"^a.mha is no mask"):
        read_prediction(tmp_path, Truth("a", write("truth/a-seg.nrrd"), None))


def test_another_grid_is_refused() -> None:
    truth = Truth("a", Path("a-seg.nrrd"), None)
    near = Volume(GRID.array, make_affine((2.0, 1.0, 1.0), (0.0005, 0.0, 0.0)))
    refuse_other_grid("The prediction", near, truth, GRID)
    far = Volume(GRID.array, make_affine((2.0, 1.0, 1.0), (0.5, 0.0, 0.0)))
    with pytest.raises(ValueError, match=r"^The prediction is not on the grid of a-seg.nrrd$"):
        refuse_other_grid("The prediction", far, truth, GRID)
