from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lnq.volume import Volume, make_affine, write_volume
from training.cases import CaseInfo, PreparedCase, case_folders, read_dataset_info
from training.config import TINY
from training.export import postprocessing_for
from training.prepare import Prepare, dataset_info, find_cases, main, prepare_all

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
    info = dataset_info([pieces], [], [tmp_path])
    assert info.smallest_node_mm3 == 2.0 * voxel_mm3
    assert info.annotated_nodes == 2


@pytest.mark.parametrize("value", [1, 255, 3])
def test_any_label_value_counts_as_node(thorax: Volume, tmp_path: Path, value: int) -> None:
    write_pair(tmp_path / "raw", "a", thorax, value=value)
    run(tmp_path / "raw", tmp_path / "out")
    assert set(np.unique(PreparedCase(tmp_path / "out" / "a").whole("label"))) == {0, 1}


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
    for name in ("good", "truncated", "empty", "alone", "elsewhere"):
        write_pair(raw, name, thorax)
    (raw / "truncated-ct.nrrd").write_bytes((raw / "truncated-ct.nrrd").read_bytes()[:3000])
    write_volume(thorax.with_array(np.zeros(thorax.shape, np.uint8)), raw / "empty-seg.nrrd")
    (raw / "alone-seg.nrrd").unlink()
    far = Volume(node_label(thorax), thorax.affine + np.array([[0, 0, 0, 900.0]] + [[0.0] * 4] * 3))
    write_volume(far, raw / "elsewhere-seg.nrrd")
    said = run(raw, tmp_path / "out")
    for reason in (
        "truncated is left out: truncated-ct.nrrd cannot be read",
        "empty is left out: empty-seg.nrrd marks no voxel",
        "alone is left out: alone-seg.nrrd is missing",
        "elsewhere is left out: elsewhere-seg.nrrd lies outside",
    ):
        assert any(reason in line for line in said), reason
    assert "1 cases are prepared (1 of them now), 4 are left out" in said[-1]
    assert [f.name for f in case_folders(tmp_path / "out")] == ["good"]
    assert len(read_dataset_info(tmp_path / "out").failed) == 4


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


def test_padding_counts_as_air(make_thorax: Callable[..., Volume], tmp_path: Path) -> None:
    ct = make_thorax()
    hu = ct.array.copy()
    hu[:, :3], hu[:, -3:] = -3024, -2000
    write_pair(tmp_path / "raw", "a", ct.with_array(hu))
    run(tmp_path / "raw", tmp_path / "out")
    assert PreparedCase(tmp_path / "out" / "a").whole("image").min() >= -1024


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
