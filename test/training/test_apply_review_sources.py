"""New labels of cases from DICOM and from nnU-Net's data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from helpers.raw_pairs import node_label
from helpers.reviews import apply_command, decide, read_table, write_candidates, write_decisions
from helpers.segmentations import PARTIAL, write_seg

from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume
from training.apply_review import main
from training.data.sources.find import find_cases, read_pair
from training.data.sources.states import node_of

PLACES_MM = [(0.0, 30.0, 60.0), (-15.0, -40.0, 90.0)]


def test_unreviewed_cases_keep_what_their_source_says(thorax: Volume, tmp_path: Path) -> None:
    label = node_label(thorax)
    label[10:14, 20:40, 20:40] = 2
    first = tmp_path / "Dataset501_Nodes"
    for part in ("imagesTr", "labelsTr"):
        (first / part).mkdir(parents=True)
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "node": 1, "ignore": 2},
        "file_ending": ".nii.gz",
    }
    (first / "dataset.json").write_text(json.dumps(content))
    (first / "splits_final.json").write_text(
        json.dumps([{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}])
    )
    for name in "ab":
        write_volume(thorax, first / "imagesTr" / f"{name}_0000.nii.gz")
        write_volume(thorax.with_array(label), first / "labelsTr" / f"{name}.nii.gz")
    write_candidates(tmp_path / "found" / "a", read_volume(first / "imagesTr" / "a_0000.nii.gz"), PLACES_MM)
    write_decisions(tmp_path / "said" / "a.decisions.json", decide(tmp_path / "found" / "a", {1: "node"}))
    for annotation in ("auto", "full"):
        output = f"new-{annotation}"
        assert main([*apply_command(first, output=output), "--annotation", annotation]) == 0
        before, after = find_cases([first], annotation), find_cases([tmp_path / output / "cases.csv"])
        assert (after[1].full, after[1].ignore, after[1].fold) == (before[1].full, before[1].ignore, before[1].fold)
        assert after[1].fold == 0
        _, given = read_pair(after[1])
        assert (node_of(given, after[1]).array > 0).sum() == (label == 1).sum()


def test_nodes_of_a_dicom_series_are_written_as_dicom_seg(
    thorax: Volume, tmp_path: Path, write_series: Callable[..., Path]
) -> None:
    series = write_series(thorax, tmp_path / "raw" / "ct", "P1")
    write_seg(series, node_label(thorax) > 0, tmp_path / "raw" / "seg" / "1-1.dcm", PARTIAL)
    (case,) = find_cases([tmp_path / "raw"])
    ct, _ = read_pair(case)
    write_candidates(tmp_path / "found" / "P1", ct, PLACES_MM)
    write_decisions(tmp_path / "said" / "a.decisions.json", decide(tmp_path / "found" / "P1", {1: "node"}))
    assert main(apply_command(tmp_path / "raw", "--dicom-seg")) == 0
    new = tmp_path / "new"
    (new / "dicom-seg" / "P1.dcm").unlink()
    assert main(apply_command(tmp_path / "raw")) == 0 and not (new / "dicom-seg" / "P1.dcm").exists()
    assert main(apply_command(tmp_path / "raw", "--dicom-seg")) == 0  # asked for later
    label = read_volume(new / "labels" / "P1.nrrd").array
    assert read_table(new / "cases.csv")[0]["image"] == str(series)
    (tmp_path / "again").mkdir()
    series.rename(tmp_path / "again" / "ct")
    (new / "dicom-seg").rename(tmp_path / "again" / "seg")
    (again,) = find_cases([tmp_path / "again"])
    assert not again.full and "partial" in again.uids["seg_description"]
    np.testing.assert_array_equal(read_pair(again)[1].array, label == 1)
    segment = pydicom.dcmread(again.label).SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_a_ct_beside_other_series_is_copied(thorax: Volume, tmp_path: Path, write_series: Callable[..., Path]) -> None:
    series = write_series(thorax, tmp_path / "raw" / "all", "P1")
    write_seg(series, node_label(thorax) > 0, tmp_path / "seg.dcm", PARTIAL)
    (tmp_path / "seg.dcm").rename(series / "seg.dcm")
    (case,) = find_cases([tmp_path / "raw"])
    ct, _ = read_pair(case)
    write_candidates(tmp_path / "found" / "P1", ct, PLACES_MM)
    write_decisions(tmp_path / "said" / "a.decisions.json", decide(tmp_path / "found" / "P1", {1: "node"}))
    assert main(apply_command(tmp_path / "raw")) == 0
    (row,) = read_table(tmp_path / "new" / "cases.csv")
    assert row["image"] == str(tmp_path / "new" / "images" / "P1.nrrd")
    np.testing.assert_array_equal(read_volume(Path(row["image"])).array, ct.array)


def test_an_unreviewed_series_beside_others_is_copied_too(
    thorax: Volume, tmp_path: Path, write_series: Callable[..., Path]
) -> None:
    for patient in ("P1", "P2"):
        series = write_series(thorax, tmp_path / "raw" / patient, patient)
        write_seg(series, node_label(thorax) > 0, tmp_path / f"{patient}.dcm", PARTIAL)
    (tmp_path / "P2.dcm").rename(tmp_path / "raw" / "P2" / "seg.dcm")
    (tmp_path / "raw" / "segs").mkdir()
    (tmp_path / "P1.dcm").rename(tmp_path / "raw" / "segs" / "seg.dcm")
    one, _ = find_cases([tmp_path / "raw"])
    write_candidates(tmp_path / "found" / "P1", read_pair(one)[0], PLACES_MM)
    write_decisions(tmp_path / "said" / "a.decisions.json", decide(tmp_path / "found" / "P1", {1: "node"}))
    assert main(apply_command(tmp_path / "raw")) == 0
    for case in find_cases([tmp_path / "new" / "cases.csv"]):
        ct, label = read_pair(case)
        np.testing.assert_array_equal(ct.array, thorax.array)
        assert (label.array == 1).any()
