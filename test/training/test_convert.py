"""Raw cases as a data set of nnU-Net, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.raw_pairs import node_label, prepare_tiny, write_pair

from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume
from training.convert import folds_of, main
from training.data.certain import add_certain
from training.data.prepared import PreparedCase
from training.data.sources.find import find_cases
from training.data.splits import read_splits

NAME = "Dataset501_Nodes"


def label_of(folder: Path, name: str) -> np.ndarray:
    return read_volume(folder / "labelsTr" / f"{name}.nii.gz").array


def test_a_data_set_comes_back_exactly(thorax: Volume, tmp_path: Path) -> None:
    first, second = tmp_path / "first" / NAME, tmp_path / "second" / NAME
    label = node_label(thorax)
    label[10:14, 20:40, 20:40] = 2
    for part in ("imagesTr", "labelsTr"):
        (first / part).mkdir(parents=True)
    labels = {"background": 0, "lymph node": 1, "ignore": 2}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"}
    (first / "dataset.json").write_text(json.dumps(content))
    folds = [{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]
    (first / "splits_final.json").write_text(json.dumps(folds))
    for name in "ab":
        write_volume(thorax, first / "imagesTr" / f"{name}_0000.nii.gz")
        write_volume(thorax.with_array(label), first / "labelsTr" / f"{name}.nii.gz")
    assert main([str(first), "-o", str(second)]) == 0
    for name in "ab":
        image = read_volume(second / "imagesTr" / f"{name}_0000.nii.gz")
        np.testing.assert_array_equal(image.array, thorax.array)
        np.testing.assert_allclose(image.affine, thorax.affine, atol=1e-4)
        np.testing.assert_array_equal(label_of(second, name), label)
    assert json.loads((second / "dataset.json").read_text())["labels"] == labels
    assert json.loads((second / "splits_final.json").read_text()) == folds


def test_a_partial_case_is_unknown_but_for_its_certain_background(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", thorax)
    write_pair(tmp_path / "raw", "lnq2023-val-0001", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "prepared")
    output = tmp_path / NAME
    assert main([str(tmp_path / "raw"), "-o", str(output), "--prepared", str(tmp_path / "prepared")]) == 0
    node = node_label(thorax) > 0
    partial, full = (label_of(output, f"lnq2023-{part}-0001") for part in ("train", "val"))
    assert (partial[node] == 1).all() and (partial == 1).sum() == node.sum()
    np.testing.assert_array_equal(full, node)
    prepared = PreparedCase(tmp_path / "prepared" / "lnq2023-train-0001")
    share = 1.0 - prepared.whole("certain").mean()
    assert 0 < (partial == 2).mean() < share  # the crop alone has unknown voxels
    assert (partial[0] == 0).all()
    found = {case.name: (case.full, case.told) for case in find_cases([output])}
    assert found == {"lnq2023-train-0001": (False, True), "lnq2023-val-0001": (False, True)}
    rows = read_splits(tmp_path / "prepared" / "splits.csv")
    folds = json.loads((output / "splits_final.json").read_text())
    assert folds[rows["lnq2023-train-0001"].fold or 0]["val"] == ["lnq2023-train-0001"]
    assert not any("lnq2023-val-0001" in fold["train"] + fold["val"] for fold in folds)


def test_the_same_command_again_writes_nothing_twice(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-val-0001", thorax)
    command = [str(tmp_path / "raw"), "-o", str(tmp_path / NAME)]
    assert main(command) == 0
    label = tmp_path / NAME / "labelsTr" / "lnq2023-val-0001.nii.gz"
    before = label.stat().st_mtime_ns
    assert main(command) == 0
    assert label.stat().st_mtime_ns == before


def test_what_has_changed_is_written_anew(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "prepared")
    command = [str(tmp_path / "raw"), "-o", str(tmp_path / NAME), "--prepared", str(tmp_path / "prepared")]
    assert main(command) == 0
    before = label_of(tmp_path / NAME, "lnq2023-train-0001")
    assert (before == 2).any()
    assert main([*command, "--annotation", "full"]) == 0
    assert not (label_of(tmp_path / NAME, "lnq2023-train-0001") == 2).any()
    assert "ignore" not in json.loads((tmp_path / NAME / "dataset.json").read_text())["labels"]
    assert main(command) == 0
    np.testing.assert_array_equal(label_of(tmp_path / NAME, "lnq2023-train-0001"), before)
    add_certain(tmp_path / "prepared" / "lnq2023-train-0001", (-300.0, -250.0))  # by which nearly all is bright
    assert main(command) == 0
    assert (label_of(tmp_path / NAME, "lnq2023-train-0001") == 2).sum() < (before == 2).sum()


def test_files_of_other_sources_or_of_a_case_that_fails_do_not_stay(
    thorax: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("lnq2023-val-0001", "lnq2023-val-0002"):
        write_pair(tmp_path / "raw", name, thorax)
    command = [str(tmp_path / "raw"), "-o", str(tmp_path / NAME)]
    assert main(command) == 0
    (tmp_path / "raw" / "lnq2023-val-0002-ct.nrrd").write_bytes(b"NRRD0004\n")
    assert main(command) == 1
    assert [path.name for path in (tmp_path / NAME / "labelsTr").iterdir()] == ["lnq2023-val-0001.nii.gz"]
    write_pair(tmp_path / "other", "lnq2023-val-0009", thorax)
    capsys.readouterr()
    assert main([str(tmp_path / "other"), "-o", str(tmp_path / NAME)]) == 2
    assert "holds 1 cases of other sources, such as lnq2023-val-0001" in capsys.readouterr().err


def test_what_cannot_be_converted_is_said(thorax: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    assert main([str(tmp_path / "raw"), "-o", str(tmp_path / "nodes")]) == 2
    assert "Error: nnU-Net needs a folder's name such as Dataset501_Nodes, not nodes" in capsys.readouterr().err
    assert main([str(tmp_path / "raw"), "-o", str(tmp_path / NAME)]) == 2
    assert "Error: 1 cases, such as a, are annotated in part: give --prepared" in capsys.readouterr().err
    assert not (tmp_path / NAME).exists()
    (tmp_path / "prepared").mkdir()
    assert main([str(tmp_path / "raw"), "-o", str(tmp_path / NAME), "--prepared", str(tmp_path / "prepared")]) == 2
    assert "a is left out: " in (said := capsys.readouterr().err) and "Error: No case could be converted" in said


def test_one_bad_case_leaves_the_others(thorax: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("lnq2023-val-0001", "lnq2023-val-0002"):
        write_pair(tmp_path / "raw", name, thorax)
    write_volume(thorax.with_array(np.zeros(thorax.shape, np.uint8)), tmp_path / "raw" / "lnq2023-val-0001-seg.nrrd")
    assert main([str(tmp_path / "raw"), "-o", str(tmp_path / NAME)]) == 1
    assert "lnq2023-val-0001 is left out: lnq2023-val-0001-seg.nrrd marks no voxel" in capsys.readouterr().err
    assert json.loads((tmp_path / NAME / "dataset.json").read_text())["numTraining"] == 1
    assert [path.name for path in (tmp_path / NAME / "imagesTr").iterdir()] == ["lnq2023-val-0002_0000.nii.gz"]


def test_every_case_for_training_validates_once(thorax: Volume, tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path / "raw", f"case-{number}", thorax)
    cases = find_cases([tmp_path / "raw"])
    folds = folds_of(cases, {})
    assert sorted(case for fold in folds for case in fold["val"]) == [case.name for case in cases]
    assert all(sorted(fold["train"] + fold["val"]) == [case.name for case in cases] for fold in folds)


@pytest.mark.slow
def test_nnunet_itself_plans_and_preprocesses_the_data_set(
    thorax: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nnunetv2")
    for number in range(3):
        write_pair(tmp_path / "raw", f"lnq2023-train-{number:04}", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "prepared")
    output = tmp_path / "nnUNet_raw" / NAME
    assert main([str(tmp_path / "raw"), "-o", str(output), "--prepared", str(tmp_path / "prepared")]) == 0
    for place in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{place}", str(tmp_path / f"nnUNet_{place}"))
    command = (
        "from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry as e; e()"
    )
    options = ["-d", "501", "--verify_dataset_integrity", "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
    subprocess.run([sys.executable, "-c", command, *options], check=True)
    made = tmp_path / "nnUNet_preprocessed" / NAME
    assert len(list((made / "nnUNetPlans_3d_fullres").glob("*.b2nd"))) == 6
    (made / "splits_final.json").write_text((output / "splits_final.json").read_text())
    read = (
        "import torch\n"
        "from nnunetv2.run.run_training import get_trainer_from_args\n"
        "from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class\n"
        "trainer = get_trainer_from_args('501', '3d_fullres', 0, device=torch.device('cpu'))\n"
        "trainer.dataset_class = infer_dataset_class(trainer.preprocessed_dataset_folder)\n"
        "print('SPLIT', *trainer.do_split())"
    )
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folds = json.loads((output / "splits_final.json").read_text())
    assert f"SPLIT {folds[0]['train']} {folds[0]['val']}" in done.stdout
