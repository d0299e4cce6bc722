from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lnq.inference.spec import CropSpec
from training.data.dataset_info import read_dataset_info
from training.data.prepared import CaseInfo, PreparedCase, case_folders, count_hu, write_case


def cases_of(data: Path, cache: bool = True) -> list[PreparedCase]:
    return [PreparedCase(folder, cache) for folder in case_folders(data)]


@pytest.mark.parametrize("cache", [True, False])
def test_box_beyond_the_case_is_air_and_background(prepared: Path, cache: bool) -> None:
    case = cases_of(prepared, cache)[0]
    whole = case.whole("image")
    box = case.box("image", (-2, 20, 5), (4, 8, 6))
    assert (box[:2] == -1024).all() and (box[:, 4:] == -1024).all()
    assert np.array_equal(box[2:, :4], whole[:2, 20:24, 5:11])
    assert not case.box("label", (-2, 20, 5), (4, 8, 6)).any()
    assert (case.box("image", (50, 0, 0), (4, 8, 6)) == -1024).all()


def test_unprepared_folder_is_refused(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="no prepared case"):
        case_folders(tmp_path)
    data = make_prepared(tmp_path / "data")
    (data / "dataset.json").unlink()
    with pytest.raises(ValueError, match="to its end first"):
        read_dataset_info(data)


def test_damaged_case_is_named(prepared: Path) -> None:
    (image, label) = (prepared / "case-00" / f"{name}.b2nd" for name in ("image", "label"))
    image.write_bytes(image.read_bytes()[:200])
    label.unlink()
    again = "delete the case's folder and run training.prepare again$"
    case = PreparedCase(prepared / "case-00")
    with pytest.raises(ValueError, match=f"case-00/image.b2nd cannot be read .*: {again}"):
        case.whole("image")
    with pytest.raises(ValueError, match=f"case-00/label.b2nd cannot be read .*: {again}"):
        case.box("label", (0, 0, 0), (2, 2, 2))
    (prepared / "case-00" / "case.json").write_text("{")
    with pytest.raises(ValueError, match=f"case-00/case.json is damaged: {again}"):
        PreparedCase(prepared / "case-00")


def test_case_gives_back_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, label, region = rng.integers(-1024, 3000, (5, 40, 70)), np.zeros((5, 40, 70)), np.ones((5, 40, 70))
    label[2, 3, 4] = 1
    info = CaseInfo("a", True, (5, 40, 70), (4.0, 3.0, 3.0), 1.5, 2.5, ((2, 3, 4),), (36.0,), 0.25, {"60": 1}, "Smith")
    info = dataclasses.replace(info, notes=("odd",), crop=CropSpec(12.0), provenance={"image": "a-ct.nrrd"})
    write_case(tmp_path / "a", info, image, label, region, np.argwhere(region)[:7])
    case = PreparedCase(tmp_path / "a")
    assert case.info == info and case.points.shape == (7, 3)
    for name, wanted in (("image", image), ("label", label), ("region", region)):
        assert np.array_equal(case.whole(name), wanted), name
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_case_of_before_crops_were_written_down_has_the_crop_of_then(prepared: Path) -> None:
    path = prepared / "case-00" / "case.json"
    content = json.loads(path.read_text())
    del content["crop"]
    path.write_text(json.dumps(content))
    assert CaseInfo.read(path.parent).crop == CropSpec(margin_mm=10.0, region_margin_mm=15.0, use_region=True)


def test_case_with_an_unknown_entry_is_damaged(prepared: Path) -> None:
    path = prepared / "case-00" / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "red"}))
    with pytest.raises(ValueError, match="case.json is damaged: delete the case's folder"):
        CaseInfo.read(path.parent)


def test_hidden_folders_are_no_cases(prepared: Path) -> None:
    shutil.copytree(prepared / "case-00", prepared / ".case-00.123")
    assert [folder.name for folder in case_folders(prepared)] == ["case-00", "case-01", "case-02"]


def test_each_level_is_counted() -> None:
    assert count_hu(np.array([60, -5, 60], np.int16)) == {"-5": 1, "60": 2}
