"""Data sets of nnU-Net v2 as sources of cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.raw_pairs import prepare_tiny

from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from training.data.certain import CERTAIN, read_certain
from training.data.prepared import CaseInfo, PreparedCase, case_folders
from training.data.sources.find import find_cases
from training.data.splits import read_splits

LABELS = {"background": 0, "lymph node": 1, "ignore": 2}


def describe(folder: Path, **changed: Any) -> None:
    content = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 2, "file_ending": ".nii.gz"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content | changed))


def states(thorax: Volume) -> np.ndarray:
    """A node in the middle, unknown tissue below it, background elsewhere."""
    label = np.zeros(thorax.shape, np.uint8)
    label[20:24, 30:34, 30:34] = 1
    label[10:20, 26:38, 26:38] = 2
    return label


def dataset(folder: Path, thorax: Volume, *names: str, **changed: Any) -> Path:
    describe(folder, **changed)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(exist_ok=True)
    hu = thorax.array.copy()
    hu[20:24, 30:34, 30:34] = 70
    for name in names:
        write_volume(thorax.with_array(hu), folder / "imagesTr" / f"{name}_0000.nii.gz")
        write_volume(thorax.with_array(states(thorax)), folder / "labelsTr" / f"{name}.nii.gz")
    return folder


def test_unknown_is_told_from_background(thorax: Volume, tmp_path: Path) -> None:
    source = dataset(tmp_path / "Dataset501_Nodes", thorax, "a", "b")
    prepare_tiny(source, tmp_path / "out")
    case = PreparedCase(tmp_path / "out" / "a")
    assert case.info.told and not case.info.full and len(case.info.node_centres) == 1
    told, node = case.whole("told"), case.whole("label")
    certain = case.whole(CERTAIN)
    assert node.any() and not (told & node).any()
    assert certain[told > 0].all() and not certain[node > 0].any()
    assert 0.0 < (told == 0).mean() < 0.2
    unknown = (certain == 0) & (node == 0)
    assert unknown.any() and not told[unknown].any()  # what the image itself shows as certain is certain here too


def test_without_ignore_every_node_is_annotated(thorax: Volume, tmp_path: Path) -> None:
    labels = {"background": 0, "lymph node": 1, "large lymph node": 2}
    source = dataset(tmp_path / "Dataset501_Nodes", thorax, "a", labels=labels)
    prepare_tiny(source, tmp_path / "out")
    info = CaseInfo.read(tmp_path / "out" / "a")
    assert info.full and not info.told and len(info.node_volumes_mm3) == 2
    facts = read_certain(tmp_path / "out" / "a")
    assert facts is not None and facts.share > 0.9
    assert [case.full for case in find_cases([source], "partial")] == [False]


def test_a_case_told_to_be_full_has_no_unknown(thorax: Volume, tmp_path: Path) -> None:
    source = dataset(tmp_path / "Dataset501_Nodes", thorax, "a")
    assert [(case.full, case.told) for case in find_cases([source], "full")] == [(True, False)]


def test_nnunets_folds_become_ours(thorax: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = dataset(tmp_path / "Dataset501_Nodes", thorax, "a", "b", "c")
    folds = [{"train": ["a", "c"], "val": ["b"]}, {"train": ["b"], "val": ["a", "c"]}]
    preprocessed = tmp_path / "preprocessed"
    (preprocessed / source.name).mkdir(parents=True)
    (preprocessed / source.name / "splits_final.json").write_text(json.dumps(folds))
    assert [case.fold for case in find_cases([source])] == [None] * 3
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed))
    assert [case.fold for case in find_cases([source])] == [1, 0, 1]
    prepare_tiny(source, tmp_path / "out")
    assert {name: row.fold for name, row in read_splits(tmp_path / "out" / "splits.csv").items()} == {
        "a": 1, "b": 0, "c": 1,
    }  # fmt: skip
    assert len(case_folders(tmp_path / "out")) == 3
    (source / "splits_final.json").write_text(json.dumps([{"val": ["a"]}, {"val": ["a"]}]))
    with pytest.raises(ValueError, match=r"splits_final.json has a case validate in two folds"):
        find_cases([source])
    (source / "splits_final.json").write_text("[{}]")
    with pytest.raises(ValueError, match=r"splits_final.json is no list of folds: 'val'"):
        find_cases([source])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"labels": {"background": 0, "all": [1, 2]}},
            "has regions, such as 'all', of several values each: give plain",
        ),
        ({"channel_names": {"0": "CT", "1": "PET"}}, "names 2 channels: a CT has one"),
        ({"labels": {"background": 0, "ignore": 1}}, "must have the label background of value 0, and another one"),
        ({"labels": {"lymph node": 1, "fat": 2}}, "must have the label background of value 0, and another one"),
        ({"labels": {"background": 0, "a": 2, "ignore": 1}}, "has ignore of value 1, which must be the highest one"),
        ({"file_ending": None, "labels": 3}, "is no description of a data set of nnU-Net v2"),
    ],
)
def test_what_is_no_ct_with_plain_labels_is_refused(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    describe(tmp_path / "Dataset501_Nodes", **changed)
    (tmp_path / "Dataset501_Nodes" / "labelsTr").mkdir()
    with pytest.raises(ValueError, match="dataset.json " + sentence):
        find_cases([tmp_path / "Dataset501_Nodes"])


def test_a_label_without_its_ct_is_named(thorax: Volume, tmp_path: Path) -> None:
    source = dataset(tmp_path / "Dataset501_Nodes", thorax, "a", "b")
    (source / "imagesTr" / "a_0000.nii.gz").unlink()
    assert [case.problem for case in find_cases([source])] == ["a_0000.nii.gz is missing", ""]
    for label in (source / "labelsTr").iterdir():
        label.unlink()
    with pytest.raises(ValueError, match=r"labelsTr holds no file named \*.nii.gz"):
        find_cases([source])
