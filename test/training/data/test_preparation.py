from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.raw_pairs import node_label, prepare_tiny, write_pair

from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from lnq.inference.spec import CropSpec
from training.data.certain import read_certain
from training.data.dataset_info import read_dataset_info
from training.data.prepared import CaseInfo, PreparedCase, case_folders


def pad(ct: Volume) -> np.ndarray:
    """HU with padding of two kinds beyond a round field of view, whose corners lie in the lungs' box."""
    _, y, x = np.indices(ct.shape)
    beyond = np.hypot(ct.affine[0, 3] + 5 * x, ct.affine[1, 3] + 5 * y) > 140
    return np.where(beyond, np.where(x < 32, -3024, -2000), ct.array).astype(np.int16)


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
    said = prepare_tiny(raw, tmp_path / "out")
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
        "import os, signal, training.data.preparation as p\n"
        "real = p.prepare_case\n"
        "def prepare_case(raw, *rest):\n"
        "    if raw.name == 'b':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(raw, *rest)\n"
        "p.prepare_case = prepare_case\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    said = prepare_tiny(tmp_path / "raw", tmp_path / "out", processes=2)
    assert "b is left out: its process was ended, there may be too little memory" in said
    assert "1 cases are prepared (1 of them now), 1 are left out" in said[-1]


def test_disk_that_is_full_leaves_nothing_half_written(
    thorax: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / "raw", name, thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "b")
    (tmp_path / "out" / ".b.4711").mkdir()  # of a run that was killed

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    assert any(
        "b is left out: [Errno 28] No space left" in line for line in prepare_tiny(tmp_path / "raw", tmp_path / "out")
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a", "dataset.json", "splits.csv"]


def test_second_run_does_only_what_is_missing(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    write_pair(tmp_path / "raw", "b", thorax)
    assert (
        "2 cases are prepared (1 of them now), 0 are left out" in prepare_tiny(tmp_path / "raw", tmp_path / "out")[-1]
    )


def test_case_that_fails_later_is_no_longer_there(thorax: Volume, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / "raw", name, thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    write_volume(thorax.with_array(np.zeros(thorax.shape, np.uint8)), tmp_path / "raw" / "b-seg.nrrd")
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    assert [f.name for f in case_folders(tmp_path / "out")] == ["a"]


def test_certain_background_is_found_with_the_statistics_of_all_cases(thorax: Volume, tmp_path: Path) -> None:
    for name in ("lnq2023-train-0001", "lnq2023-val-0001"):
        write_pair(tmp_path / "raw", name, thorax)
    said = prepare_tiny(tmp_path / "raw", tmp_path / "out")
    facts = [read_certain(folder) for folder in case_folders(tmp_path / "out")]
    assert all(one is not None and one.clip_hu == read_dataset_info(tmp_path / "out").clip_hu for one in facts)
    partial, full = (one for one in facts if one is not None)
    assert partial.share < full.share and full.share > 0.98
    line = (
        f"Certain background: {partial.share:.0%} of the voxels of partial cases, "
        f"{partial.share_of_region:.0%} of those in the region"
    )
    assert line in said


def test_a_case_without_certain_background_stops_no_other(thorax: Volume, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / "raw", name, thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    for name in ("a", "b"):
        (tmp_path / "out" / name / "certain.json").unlink()
    (tmp_path / "out" / "a" / "image.b2nd").write_bytes(b"no array")
    said = prepare_tiny(tmp_path / "raw", tmp_path / "out")
    assert any("a has no certain background: " in line and "cannot be read" in line for line in said)
    assert [read_certain(tmp_path / "out" / name) is None for name in ("a", "b")] == [True, False]
    assert "2 cases are prepared (0 of them now), 0 are left out" in said[-1]


def test_names_tell_full_from_partial(thorax: Volume, tmp_path: Path) -> None:
    for name in ("lnq2023-train-0001", "lnq2023-val-0001"):
        write_pair(tmp_path / "raw", name, thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out", processes=2)
    full = [CaseInfo.read(folder).full for folder in case_folders(tmp_path / "out")]
    assert full == [False, True]
    assert read_dataset_info(tmp_path / "out").partial_cases == 1


def test_case_is_prepared_again_with_another_crop(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    narrow = CaseInfo.read(tmp_path / "out" / "a")
    crop = CropSpec(margin_mm=25.0)
    assert "1 cases are prepared (1 of them now)" in prepare_tiny(tmp_path / "raw", tmp_path / "out", crop=crop)[-1]
    wide = CaseInfo.read(tmp_path / "out" / "a")
    assert (narrow.crop.margin_mm, wide.crop, read_dataset_info(tmp_path / "out").crop) == (10.0, crop, crop)
    # 15 mm more on either side, as far as the CT reaches: voxels of 4 x 3 x 3 mm
    assert all(0 < b - a <= 11 for a, b in zip(narrow.shape, wide.shape, strict=True)), (narrow.shape, wide.shape)
    assert "(0 of them now)" in prepare_tiny(tmp_path / "raw", tmp_path / "out", crop=crop)[-1]


def test_case_of_before_crops_were_written_down_is_kept(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    path = tmp_path / "out" / "a" / "case.json"
    content = json.loads(path.read_text())
    del content["crop"]
    content["provenance"]["crop"]["margin_mm"] = 10.0  # where it stood then
    path.write_text(json.dumps(content))
    assert "(0 of them now)" in prepare_tiny(tmp_path / "raw", tmp_path / "out")[-1]
    assert "(1 of them now)" in prepare_tiny(tmp_path / "raw", tmp_path / "out", crop=CropSpec(margin_mm=25.0))[-1]
