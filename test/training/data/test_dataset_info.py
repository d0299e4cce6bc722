from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.raw_pairs import node_label, prepare_tiny, write_pair

from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from lnq.inference.spec import CropSpec, Normalisation
from training.data.dataset_info import dataset_info, normalisation_for, read_dataset_info, write_dataset_info
from training.data.prepared import CaseInfo, PreparedCase
from training.data.splits import read_splits


def test_statistics_are_of_the_voxels_under_the_annotation(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    info = read_dataset_info(tmp_path / "out")
    case = PreparedCase(tmp_path / "out" / "lnq2023-train-0001")
    under = case.whole("image")[case.whole("label") > 0].astype(float)
    assert info.mean_hu == pytest.approx(under.mean(), abs=1e-6)
    assert info.std_hu == pytest.approx(under.std(), abs=1e-6)
    assert info.clip_hu == pytest.approx(np.percentile(under, (0.5, 99.5)), abs=2)
    assert info.smallest_node_mm3 == case.info.node_volumes_mm3[0]


def test_stray_pieces_are_no_nodes(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    case = PreparedCase(tmp_path / "out" / "a").info
    voxel_mm3 = 4.0 * 3.0 * 3.0
    pieces = dataclasses.replace(case, node_volumes_mm3=(1.9 * voxel_mm3, 2.0 * voxel_mm3, 500.0))
    info = dataset_info([pieces], [], {})
    assert info.smallest_node_mm3 == 2.0 * voxel_mm3
    assert info.annotated_nodes == 2


def test_statistics_are_of_the_cases_for_training(thorax: Volume, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in ("lnq2023-train-0001", "lnq2023-train-0002", "lnq2023-test-0001"):
        write_pair(raw, name, thorax)
    small = thorax.with_array(node_label(thorax, radius_mm=7.0))
    for name in ("lnq2023-train-0002", "lnq2023-test-0001"):
        write_volume(small, raw / f"{name}-seg.nrrd")
    said = prepare_tiny(raw, out)
    assert said[-2] == "1 for test, 2 for train"
    rows = read_splits(out / "splits.csv")
    assert [row.split for row in rows.values()] == ["test", "train", "train"]
    assert sorted(row.fold for row in rows.values() if row.split == "train") == [0, 1]
    assert read_dataset_info(out).cases == 2
    assert read_dataset_info(out).smallest_node_mm3 == small.array.sum() * 125.0
    text = (out / "splits.csv").read_text().replace("lnq2023-train-0002,train", "lnq2023-train-0002,unused")
    (out / "splits.csv").write_text(re.sub("unused,.", "unused,", text))
    prepare_tiny(raw, out)
    assert read_dataset_info(out).cases == 1
    assert read_dataset_info(out).smallest_node_mm3 == node_label(thorax).sum() * 125.0


CASE = CaseInfo("a", False, (4, 4, 4), (4.0, 3.0, 3.0), 0.0, 1.0, ((1, 1, 1),), (200.0,), 0.0, {"10": 3, "20": 1})


def test_statistics_of_several_cases_are_added_up() -> None:
    other = dataclasses.replace(CASE, case="b", full=True, hu_counts={"20": 4}, node_volumes_mm3=(90.0, 500.0))
    info = dataset_info([CASE, other], ["c: broken"], {"commit": "x"})
    assert info.mean_hu == 16.25 and info.std_hu == pytest.approx(np.std([10] * 3 + [20] * 5))
    assert info.clip_hu == (10.0, 20.0) and info.smallest_node_mm3 == 90.0
    assert (info.cases, info.partial_cases, info.annotated_nodes, info.failed) == (2, 1, 3, ("c: broken",))


def test_data_set_says_how_its_cases_were_cropped(tmp_path: Path) -> None:
    crop = CropSpec(margin_mm=12.0, use_region=False)
    write_dataset_info(tmp_path, dataset_info([dataclasses.replace(CASE, crop=crop)], [], {}))
    assert json.loads((tmp_path / "dataset.json").read_text())["crop"]["margin_mm"] == 12.0
    assert read_dataset_info(tmp_path).crop == crop


def test_cases_that_were_cropped_otherwise_form_no_data_set() -> None:
    other = dataclasses.replace(CASE, case="b", crop=CropSpec(margin_mm=12.0))
    sentence = "^Case b has crop.margin_mm 12.0 where case a has crop.margin_mm 10.0: CTs must be cropped alike$"
    with pytest.raises(ValueError, match=sentence):
        dataset_info([CASE, other], [], {})


def test_data_set_of_before_crops_were_written_down_has_the_crop_of_then(prepared: Path) -> None:
    content = json.loads((prepared / "dataset.json").read_text())
    del content["crop"]
    (prepared / "dataset.json").write_text(json.dumps(content))
    assert read_dataset_info(prepared).crop == CropSpec(margin_mm=10.0, region_margin_mm=15.0, use_region=True)


def test_no_case_is_no_data_set() -> None:
    with pytest.raises(ValueError, match="^No case could be prepared: a: broken; b: gone$"):
        dataset_info([], ["a: broken", "b: gone"], {})


def test_normalisation_is_of_the_volume_or_of_the_data_set() -> None:
    info = dataset_info([CASE], [], {})
    assert normalisation_for("zscore", info) == Normalisation("zscore")
    assert normalisation_for("ct", info) == Normalisation("ct", (10.0, 20.0), 12.5, info.std_hu)
    assert info.std_hu == pytest.approx(np.sqrt(18.75))
