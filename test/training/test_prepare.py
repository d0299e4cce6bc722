from __future__ import annotations

from pathlib import Path

import pytest
from helpers.raw_pairs import prepare_tiny, write_pair

from lnq.image.volume import Volume
from lnq.inference.spec import CropSpec
from training.data.prepared import CaseInfo, case_folders
from training.prepare import main


def test_damaged_splits_file_stops_before_the_work(
    thorax: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "splits.csv").write_text("case\n")
    assert main([str(tmp_path / "raw"), "-o", str(tmp_path / "out"), "--preset", "tiny"]) == 2
    assert "splits.csv must have the columns case, patient, split, fold" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["splits.csv"]


def test_cases_of_other_sources_are_refused(thorax: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / name, name, thorax)
    prepare_tiny(tmp_path / "a", tmp_path / "out")
    assert main([str(tmp_path / "b"), "-o", str(tmp_path / "out"), "--preset", "tiny"]) == 2
    assert "holds 1 prepared cases of other sources, such as a:" in capsys.readouterr().err
    assert [f.name for f in case_folders(tmp_path / "out")] == ["a"]


def test_folder_without_cases_ends_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", str(tmp_path / "out"), "--preset", "tiny"]) == 2
    assert "No file named *-ct.nrrd" in capsys.readouterr().err


def test_options_choose_spacing_and_crop(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    command = [str(tmp_path / "raw"), "-o", str(tmp_path / "out"), "--preset", "tiny"]
    assert main([*command, "--crop.margin-mm", "20", "--spacing-mm", "5", "4", "4"]) == 0
    info = CaseInfo.read(tmp_path / "out" / "a")
    assert (info.crop, info.spacing_mm) == (CropSpec(margin_mm=20.0), (5.0, 4.0, 4.0))


def test_the_command_writes_the_data_sets_page(
    thorax: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2")
    write_pair(tmp_path / "raw", "a", thorax)
    assert main([str(tmp_path / "raw"), "-o", str(tmp_path / "out"), "--preset", "tiny"]) == 0
    assert f"{tmp_path / 'out' / 'dataset.html'}: " in capsys.readouterr().err
    assert "Training data: out" in (tmp_path / "out" / "dataset.html").read_text("utf-8")
