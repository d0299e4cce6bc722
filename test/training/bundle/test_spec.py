from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.prepared_cases import recrop
from helpers.training_runs import SHORT

from lnq.inference.spec import CropSpec
from training.bundle.spec import bundle_spec, joint_spec, postprocessing_for, read_member
from training.config import TINY
from training.data.dataset_info import read_dataset_info
from training.data.splits import Selection
from training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.engine.finetuning import finetune
from training.engine.pretraining import pretrain


def test_postprocessing_follows_the_training_labels_or_the_paper(prepared: Path) -> None:
    info = read_dataset_info(prepared)
    rules = postprocessing_for(TINY, dataclasses.replace(info, clip_hu=(-40.0, 160.0), smallest_node_mm3=90.0))
    assert rules.hu_range == (-90.0, 210.0) and rules.min_volume_mm3 == 90.0
    assert postprocessing_for(TINY, dataclasses.replace(info, smallest_node_mm3=900.0)).min_volume_mm3 == 175.0
    paper = postprocessing_for(dataclasses.replace(TINY, paper_postprocess=True), info)
    assert (paper.hu_range, paper.min_volume_mm3) == ((-54.0, 235.5), 175.0)
    assert json.dumps(dataclasses.asdict(paper))


def test_spec_crops_as_the_data_were_cropped(prepared: Path, tmp_path: Path) -> None:
    crop = CropSpec(margin_mm=20.0, region_margin_mm=12.0, use_region=False)
    recrop(prepared, crop)
    assert finetune(prepared, tmp_path, dataclasses.replace(SHORT, crop=crop))
    assert bundle_spec(load_checkpoint(tmp_path / "finetune.pt")).crop == crop


def test_data_cropped_otherwise_than_the_configuration_says_make_no_bundle(checkpoint: Path) -> None:
    content = load_checkpoint(checkpoint)
    content["facts"]["dataset"]["crop"]["margin_mm"] = 20.0
    sentence = "^The checkpoint's data set has crop.margin_mm 20.0 where its configuration has crop.margin_mm 10.0: "
    with pytest.raises(ValueError, match=sentence):
        bundle_spec(content)


def test_checkpoint_of_before_crops_were_written_down_has_the_crop_of_then(checkpoint: Path) -> None:
    content = load_checkpoint(checkpoint)
    del content["config"]["crop"], content["facts"]["dataset"]["crop"]
    spec = bundle_spec(content)
    assert spec.crop == CropSpec(margin_mm=10.0, region_margin_mm=15.0, use_region=True)


def test_checkpoint_of_a_pre_training_makes_no_bundle(prepared: Path, tmp_path: Path) -> None:
    assert pretrain(prepared, tmp_path, SHORT)
    with pytest.raises(ValueError, match="^A checkpoint of pretrain was given: a bundle is made from one of finetune$"):
        bundle_spec(load_checkpoint(tmp_path / "pretrain.pt"))


def patched(content: Checkpoint, place: str, value: object) -> None:
    *parts, last = place.split(".")
    for part in parts:
        content = content[part]
    content[last] = value


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"config.spacing_mm": [3.0, 1.5, 1.5]}, "spacing_mm"),
        ({"config.patch": [16, 64, 64]}, "patch"),
        ({"config.network.dropout": [0.5, 0.5, 0.5]}, "network"),
        ({"config.crop.margin_mm": 20.0, "facts.dataset.crop.margin_mm": 20.0}, "crop"),
        ({"facts.normalisation.mean": 61.0}, "normalisation"),
        ({"facts.dataset.smallest_node_mm3": 30.0}, "postprocess"),
        ({"facts.normalisation.std": 9.0, "config.paper_postprocess": True}, "normalisation, postprocess"),
    ],
)
def test_members_that_see_cts_differently_are_no_ensemble(
    checkpoint: Path, tmp_path: Path, changes: dict[str, object], fields: str
) -> None:
    content, other = load_checkpoint(checkpoint), tmp_path / "other.pt"
    for place, value in changes.items():
        patched(content, place, value)
    save_checkpoint(other, content)
    with pytest.raises(ValueError) as caught:
        joint_spec([read_member(checkpoint), read_member(other)])
    assert str(caught.value) == f"{other} differs from {checkpoint} in {fields}: members must be alike"


def test_the_specification_of_one_member_is_its_own(checkpoint: Path) -> None:
    assert joint_spec([read_member(checkpoint)]) == bundle_spec(load_checkpoint(checkpoint))
    with pytest.raises(ValueError, match="^A bundle needs a checkpoint, and none was given$"):
        joint_spec([])


def test_folds_of_one_prepared_data_set_are_alike(prepared: Path, tmp_path: Path) -> None:
    """Normalisation and post-processing come from dataset.json, which is of all folds."""
    rows = ["case,patient,split,fold", *(f"{case.name},{case.name},train,{n % 2}" for n, case in cases_of(prepared))]
    (prepared / "splits.csv").write_text("\n".join(rows) + "\n")
    members = []
    for fold in (0, 1):
        assert finetune(prepared, tmp_path / str(fold), SHORT, selection=Selection(fold=fold))
        members.append(read_member(tmp_path / str(fold) / "finetune.pt"))
    one, two = joint_spec(members).provenance["members"]
    assert one["cases_sha256"] != two["cases_sha256"] and one["config_sha256"] == two["config_sha256"]


def cases_of(prepared: Path) -> list[tuple[int, Path]]:
    return list(enumerate(sorted(path for path in prepared.iterdir() if path.is_dir())))
