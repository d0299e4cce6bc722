from __future__ import annotations

import dataclasses
import errno
import json
import re
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from rich.console import Console

from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine
from training.bundle.spec import postprocessing_for
from training.config import TINY
from training.data.dataset_info import dataset_info, read_dataset_info
from training.data.prepare_case import component_centres
from training.data.prepared import CaseInfo, PreparedCase, case_folders
from training.data.sources import find_cases
from training.data.splits import read_splits
from training.prepare import Prepare, main, prepare_all

NODE_MM = (0.0, 0.0, 40.0)  # L, P, S of the annotated node: in the fat between the lungs
RADIUS_MM = 11.0
NODE_HU = 75


def node_label(volume: Volume, radius_mm: float = RADIUS_MM, value: int = 1) -> np.ndarray:
    index = np.indices(volume.shape).reshape(3, -1)
    position = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    inside = np.linalg.norm(position - np.array(NODE_MM)[:, None], axis=0) <= radius_mm
    return (inside.reshape(volume.shape) * value).astype(np.uint8)


def write_pair(folder: Path, name: str, ct: Volume, label: Volume | None = None, value: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    hu = ct.array.copy()
    hu[node_label(ct) > 0] = NODE_HU
    write_volume(ct.with_array(hu), folder / f"{name}-ct.nrrd")
    write_volume(label or ct.with_array(node_label(ct, value=value)), folder / f"{name}-seg.nrrd")


def pad(ct: Volume) -> np.ndarray:
    """HU with padding of two kinds beyond a round field of view, whose corners lie in the lungs' box."""
    _, y, x = np.indices(ct.shape)
    beyond = np.hypot(ct.affine[0, 3] + 5 * x, ct.affine[1, 3] + 5 * y) > 140
    return np.where(beyond, np.where(x < 32, -3024, -2000), ct.array).astype(np.int16)


def run(folder: Path, output: Path, processes: int = 1) -> list[str]:
    """Prepare; returns what was said."""
    said = StringIO()
    command = Prepare((folder,), output, processes=processes, config=TINY)
    assert prepare_all(command, Console(file=said, width=300))
    return said.getvalue().splitlines()


def test_pair_becomes_a_prepared_case(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", thorax)
    run(tmp_path / "raw", tmp_path / "out")
    case = PreparedCase(tmp_path / "out" / "lnq2023-train-0001")
    image, label, region = (case.whole(name) for name in ("image", "label", "region"))
    assert image.shape == label.shape == region.shape == case.info.shape
    assert image.dtype == np.int16 and image.min() >= -1024
    assert case.info.spacing_mm == TINY.spacing_mm and not case.info.full and case.info.label_lost == 0.0
    wanted_mm3 = node_label(thorax).sum() * 125.0
    assert case.info.node_volumes_mm3 == (wanted_mm3,)
    assert label.sum() * np.prod(TINY.spacing_mm) == pytest.approx(wanted_mm3, rel=0.1)
    (centre,) = case.info.node_centres
    assert label[centre] == 1
    assert image[label > 0].mean() == pytest.approx(NODE_HU, abs=25)  # its border is blood of 160
    assert len(case.points) and all(region[tuple(p)] for p in case.points[:50])


def test_statistics_are_of_the_voxels_under_the_annotation(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", thorax)
    run(tmp_path / "raw", tmp_path / "out")
    info = read_dataset_info(tmp_path / "out")
    case = PreparedCase(tmp_path / "out" / "lnq2023-train-0001")
    under = case.whole("image")[case.whole("label") > 0].astype(float)
    assert info.mean_hu == pytest.approx(under.mean(), abs=1e-6)
    assert info.std_hu == pytest.approx(under.std(), abs=1e-6)
    assert info.clip_hu == pytest.approx(np.percentile(under, (0.5, 99.5)), abs=2)
    assert info.smallest_node_mm3 == case.info.node_volumes_mm3[0]


def test_stray_pieces_are_no_nodes(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    run(tmp_path / "raw", tmp_path / "out")
    case = PreparedCase(tmp_path / "out" / "a").info
    voxel_mm3 = 4.0 * 3.0 * 3.0
    pieces = dataclasses.replace(case, node_volumes_mm3=(1.9 * voxel_mm3, 2.0 * voxel_mm3, 500.0))
    info = dataset_info([pieces], [], {})
    assert info.smallest_node_mm3 == 2.0 * voxel_mm3
    assert info.annotated_nodes == 2


def test_stray_pieces_are_sampled_only_where_there_is_no_node() -> None:
    node = np.zeros((6, 6, 6), np.uint8)
    node[0, 0, 0] = 1
    assert list(component_centres(node)) == [(0, 0, 0)]
    node[3, 3, 2:5] = 1
    assert list(component_centres(node)) == [(3, 3, 3)]
    assert list(component_centres(np.zeros((2, 2, 2), np.uint8))) == []


@pytest.mark.parametrize("value", [1, 255, 3])
def test_any_label_value_counts_as_node(thorax: Volume, tmp_path: Path, value: int) -> None:
    write_pair(tmp_path / "raw", "a", thorax, value=value)
    said = run(tmp_path / "raw", tmp_path / "out")
    assert set(np.unique(PreparedCase(tmp_path / "out" / "a").whole("label"))) == {0, 1}
    named = f"a: a-seg.nrrd has value {value}: every value above 0 was taken for node" in said
    assert named == (value != 1)


def test_touching_instances_are_several_nodes(thorax: Volume, tmp_path: Path) -> None:
    label = node_label(thorax)
    label[26:][label[26:] > 0] = 9
    write_pair(tmp_path / "raw", "a", thorax, thorax.with_array(label))
    said = run(tmp_path / "raw", tmp_path / "out")
    volumes = CaseInfo.read(tmp_path / "out" / "a").node_volumes_mm3
    assert volumes == ((label == 1).sum() * 125.0, (label == 9).sum() * 125.0)
    assert "a: a-seg.nrrd has 2 instances, of values 1, 9: every value above 0 was taken for node" in said


def test_label_of_another_grid_is_placed_by_geometry(thorax: Volume, tmp_path: Path) -> None:
    grid = Volume(np.zeros((40, 50, 60), np.uint8), make_affine((3, 2, 2), (-59, -49, -20)))
    label = grid.with_array(node_label(grid))
    write_pair(tmp_path / "raw", "same", thorax)
    write_pair(tmp_path / "raw", "other", thorax, label=label)
    run(tmp_path / "raw", tmp_path / "out")
    same, other = (PreparedCase(tmp_path / "out" / name) for name in ("same", "other"))
    a, b = same.whole("label") > 0, other.whole("label") > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85
    assert np.abs(np.argwhere(a).mean(axis=0) - np.argwhere(b).mean(axis=0)).max() < 0.3


def test_bad_cases_are_named_and_left_out(thorax: Volume, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("good", "truncated", "empty", "alone", "elsewhere", "cut", "in-lung", "ct-twice", "padded"):
        write_pair(raw, name, thorax)
    (raw / "truncated-ct.nrrd").write_bytes((raw / "truncated-ct.nrrd").read_bytes()[:3000])
    write_volume(thorax.with_array(np.zeros(thorax.shape, np.uint8)), raw / "empty-seg.nrrd")
    (raw / "alone-seg.nrrd").unlink()
    far = Volume(node_label(thorax), thorax.affine + np.array([[0, 0, 0, 900.0]] + [[0.0] * 4] * 3))
    write_volume(far, raw / "elsewhere-seg.nrrd")
    (raw / "cut-seg.nrrd").write_bytes((raw / "cut-seg.nrrd").read_bytes()[:-20])
    lung = np.zeros(thorax.shape, np.uint8)
    lung[20:24, 26:30, 44:48] = 1
    write_volume(thorax.with_array(lung), raw / "in-lung-seg.nrrd")
    write_volume(thorax, raw / "ct-twice-seg.nrrd")
    write_volume(thorax.with_array(pad(thorax)), raw / "padded-ct.nrrd")
    said = run(raw, tmp_path / "out")
    for reason in (
        "truncated is left out: truncated-ct.nrrd cannot be read",
        "empty is left out: empty-seg.nrrd marks no voxel",
        "alone is left out: alone-seg.nrrd is missing",
        "elsewhere is left out: elsewhere-seg.nrrd lies outside the lungs' box of elsewhere-ct.nrrd: a wrong pair?",
        "cut is left out: cut-seg.nrrd cannot be read: it is truncated",
        "in-lung is left out: in-lung-seg.nrrd marks air or lung in in-lung-ct.nrrd: a wrong pair?",
        "ct-twice is left out: ct-twice-seg.nrrd is no label: its values go from -10",
    ):
        assert any(reason in line for line in said), reason
    assert "2 cases are prepared (2 of them now), 7 are left out" in said[-1]
    assert [f.name for f in case_folders(tmp_path / "out")] == ["good", "padded"]
    padded = PreparedCase(tmp_path / "out" / "padded").whole("image")
    assert padded.min() == -1024 and (padded == -1024).sum() > 1000
    assert not any("padded" in line for line in said)  # padding is normal
    assert len(read_dataset_info(tmp_path / "out").failed) == 7
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["dataset.json", "good", "padded", "splits.csv"]


def test_process_that_ends_names_its_case(thorax: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A started process loads `sitecustomize`, which has it end as the kernel ends one that takes too much memory."""
    for name in ("a", "b"):
        write_pair(tmp_path / "raw", name, thorax)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, training.prepare as p\n"
        "real = p.prepare_case\n"
        "def prepare_case(raw, *rest):\n"
        "    if raw.name == 'b':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(raw, *rest)\n"
        "p.prepare_case = prepare_case\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    said = run(tmp_path / "raw", tmp_path / "out", processes=2)
    assert "b is left out: its process was ended, there may be too little memory" in said
    assert "1 cases are prepared (1 of them now), 1 are left out" in said[-1]


def test_disk_that_is_full_leaves_nothing_half_written(
    thorax: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / "raw", name, thorax)
    run(tmp_path / "raw", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "b")
    (tmp_path / "out" / ".b.4711").mkdir()  # of a run that was killed

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    assert any("b is left out: [Errno 28] No space left" in line for line in run(tmp_path / "raw", tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a", "dataset.json", "splits.csv"]


def test_provenance_says_how_a_case_was_made(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    run(tmp_path / "raw", tmp_path / "out")
    info = CaseInfo.read(tmp_path / "out" / "a")
    assert info.provenance["image_bytes"] == (tmp_path / "raw" / "a-ct.nrrd").stat().st_size
    crop = info.provenance["crop"]
    assert (crop["margin_mm"], crop["lungs"], crop["warnings"]) == (10.0, 2, [])
    # the lungs of the phantom reach from L -116 to 116 mm: 273.5 mm - 157.5 mm and back, and 10 mm more
    low, high = crop["box"][2]
    assert -157.5 + 5 * (low - 0.5) == pytest.approx(-126, abs=7.5)
    assert -157.5 + 5 * (high - 0.5) == pytest.approx(126, abs=7.5)


def test_statistics_are_of_the_cases_for_training(thorax: Volume, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in ("lnq2023-train-0001", "lnq2023-train-0002", "lnq2023-test-0001"):
        write_pair(raw, name, thorax)
    small = thorax.with_array(node_label(thorax, radius_mm=7.0))
    for name in ("lnq2023-train-0002", "lnq2023-test-0001"):
        write_volume(small, raw / f"{name}-seg.nrrd")
    said = run(raw, out)
    assert said[-2] == "1 for test, 2 for train"
    rows = read_splits(out / "splits.csv")
    assert [row.split for row in rows.values()] == ["test", "train", "train"]
    assert sorted(row.fold for row in rows.values() if row.split == "train") == [0, 1]
    assert read_dataset_info(out).cases == 2
    assert read_dataset_info(out).smallest_node_mm3 == small.array.sum() * 125.0
    text = (out / "splits.csv").read_text().replace("lnq2023-train-0002,train", "lnq2023-train-0002,unused")
    (out / "splits.csv").write_text(re.sub("unused,.", "unused,", text))
    run(raw, out)
    assert read_dataset_info(out).cases == 1
    assert read_dataset_info(out).smallest_node_mm3 == node_label(thorax).sum() * 125.0


def test_damaged_splits_file_stops_before_the_work(
    thorax: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "splits.csv").write_text("case\n")
    assert main([str(tmp_path / "raw"), "-o", str(tmp_path / "out"), "--preset", "tiny"]) == 2
    assert "splits.csv must have the columns case, patient, split, fold" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["splits.csv"]


def test_second_run_does_only_what_is_missing(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    run(tmp_path / "raw", tmp_path / "out")
    write_pair(tmp_path / "raw", "b", thorax)
    assert "2 cases are prepared (1 of them now), 0 are left out" in run(tmp_path / "raw", tmp_path / "out")[-1]


def test_case_that_fails_later_is_no_longer_there(thorax: Volume, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / "raw", name, thorax)
    run(tmp_path / "raw", tmp_path / "out")
    write_volume(thorax.with_array(np.zeros(thorax.shape, np.uint8)), tmp_path / "raw" / "b-seg.nrrd")
    run(tmp_path / "raw", tmp_path / "out")
    assert [f.name for f in case_folders(tmp_path / "out")] == ["a"]


def test_cases_of_other_sources_are_refused(thorax: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / name, name, thorax)
    run(tmp_path / "a", tmp_path / "out")
    assert main([str(tmp_path / "b"), "-o", str(tmp_path / "out"), "--preset", "tiny"]) == 2
    assert "holds 1 prepared cases of other sources, such as a:" in capsys.readouterr().err
    assert [f.name for f in case_folders(tmp_path / "out")] == ["a"]


def test_a_folder_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a-ct.nrrd").touch()
    with pytest.raises(ValueError, match="Two cases of one name"):
        find_cases([tmp_path, tmp_path])


def test_names_tell_full_from_partial(thorax: Volume, tmp_path: Path) -> None:
    for name in ("lnq2023-train-0001", "lnq2023-val-0001"):
        write_pair(tmp_path / "raw", name, thorax)
    run(tmp_path / "raw", tmp_path / "out", processes=2)
    full = [CaseInfo.read(folder).full for folder in case_folders(tmp_path / "out")]
    assert full == [False, True]
    assert read_dataset_info(tmp_path / "out").partial_cases == 1


def test_label_beyond_the_crop_is_reported(thorax: Volume, tmp_path: Path) -> None:
    label = node_label(thorax)
    label[20:24, 20:30, :2] = 1  # beside the body
    write_pair(tmp_path / "raw", "a", thorax, label=thorax.with_array(label))
    said = run(tmp_path / "raw", tmp_path / "out")
    lost = 80 / (80 + node_label(thorax).sum())
    assert CaseInfo.read(tmp_path / "out" / "a").label_lost == pytest.approx(lost, abs=1e-6)
    assert any(f"a: {lost:.1%} of the annotation lies outside the crop" in line for line in said)


def test_folder_without_cases_ends_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", str(tmp_path / "out"), "--preset", "tiny"]) == 2
    assert "No file named *-ct.nrrd" in capsys.readouterr().err


def test_postprocessing_follows_the_training_labels_or_the_paper(prepared: Path) -> None:
    info = read_dataset_info(prepared)
    rules = postprocessing_for(TINY, dataclasses.replace(info, clip_hu=(-40.0, 160.0), smallest_node_mm3=90.0))
    assert rules.hu_range == (-90.0, 210.0) and rules.min_volume_mm3 == 90.0
    assert postprocessing_for(TINY, dataclasses.replace(info, smallest_node_mm3=900.0)).min_volume_mm3 == 175.0
    paper = postprocessing_for(dataclasses.replace(TINY, paper_postprocess=True), info)
    assert (paper.hu_range, paper.min_volume_mm3) == ((-54.0, 235.5), 175.0)
    assert json.dumps(dataclasses.asdict(paper))
