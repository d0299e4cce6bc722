"""The command that proposes candidates, with a network whose marks mean nothing."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.raw_pairs import write_pair
from helpers.reviews import read_table, write_candidates

from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume
from training import propose as module
from training.apply_review import main as apply_review
from training.propose import main
from training.review.candidates import Found, find_candidates
from training.review.write import read_found


@pytest.fixture
def raw(thorax: Volume, tmp_path: Path) -> Path:
    for name in ("lnq2023-train-0001", "lnq2023-train-0002", "lnq2023-val-0001"):
        write_pair(tmp_path / "raw", name, thorax)
    return tmp_path / "raw"


def command(raw: Path, bundle: Path, *others: str) -> list[str]:
    return [str(raw), "--models", str(bundle), "-o", str(raw.parent / "out"), "--device", "cpu", *others]


def test_every_partial_case_gets_a_folder_and_the_run_a_table(raw: Path, tiny_bundle: Path, capsys) -> None:
    assert main(command(raw, tiny_bundle, "--threshold", "0.01", "--limits.least-mm", "0")) == 0
    out = raw.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "candidates.csv", "lnq2023-train-0001", "lnq2023-train-0002", "review.html",
    ]  # fmt: skip
    with open(out / "candidates.csv") as file:
        table = list(csv.DictReader(file))
    content = json.loads((out / "lnq2023-train-0001" / "candidates.json").read_text())
    assert len(table) == 2 * len(content["candidates"])
    assert content["made_from"]["flips"] == 2 and len(content["made_from"]["weights"][0]) == 64
    ct = read_volume(raw / "lnq2023-train-0001-ct.nrrd")
    numbers = read_volume(out / "lnq2023-train-0001" / "candidates.nii.gz")
    assert numbers.shape == ct.shape and numbers.array.max() == len(content["candidates"])
    np.testing.assert_allclose(numbers.affine, ct.affine, atol=1e-4)
    assert f"{len(table)} candidates in 2 cases are in {out}, 0 are left out" in capsys.readouterr().err


def test_mined_decisions_become_labels(
    raw: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, labels = raw.parent / "out", raw.parent / "labels"
    for name in ("lnq2023-train-0001", "lnq2023-train-0002"):
        write_candidates(out / name, read_volume(raw / f"{name}-ct.nrrd"), [(0.0, 30.0, 60.0), (-15.0, -40.0, 90.0)])
    monkeypatch.setattr(module, "_of_case", lambda case, command, *_: read_found(command.output / case.name))
    surest = ["--mined", "--mining.score", "0", "--mining.agreement", "0", "--mining.short-axis-mm", "0"]
    assert main(command(raw, tiny_bundle, *surest)) == 0
    assert f"4 of them were taken for nodes in {out}/mined: nobody has seen them" in capsys.readouterr().err
    assert apply_review([str(raw), "--candidates", str(out), "--decisions", str(out / "mined"), "-o", str(labels)]) == 0
    votes = read_table(labels / "votes.csv")
    assert [vote["verdict"] for vote in votes] == ["node"] * 4
    assert all(vote["reader"].startswith("mined by lnq") and "seen by nobody" in vote["reader"] for vote in votes)
    assert {row["annotation"] for row in read_table(labels / "cases.csv") if "train" in row["case"]} == {"partial"}
    assert main(command(raw, tiny_bundle, "--mined", "--mining.score", "2")) == 0
    assert f"0 of them were taken for nodes in {out}/mined" in capsys.readouterr().err
    assert main(command(raw, tiny_bundle, "--mined")) == 2
    assert (
        "No node is annotated that would tell how sure is sure enough: give --mining.score" in capsys.readouterr().err
    )


def test_cases_that_are_done_are_kept_until_something_changes(
    raw: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def counting(*given: object) -> Found:
        looked.append(len(given[2]))  # type: ignore[arg-type]
        return find_candidates(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "find_candidates", counting)
    for arguments, wanted in (
        ((), [2, 2]),
        ((), []),
        (("--flips", "3"), [3, 3]),
        (("--limits.count", "7"), [2, 2]),
        (("--levels", "2"), [2, 2]),
    ):
        looked.clear()
        assert main(command(raw, tiny_bundle, *arguments)) == 0
        assert looked == wanted


def test_cts_that_nobody_annotated_are_looked_at(raw: Path, tiny_bundle: Path) -> None:
    (raw.parent / "all.csv").write_text("image,label,annotation\nraw/lnq2023-train-0001-ct.nrrd,,none\n")
    out = raw.parent / "out"
    options = ["--models", str(tiny_bundle), "-o", str(out), "--threshold", "0.01", "--limits.least-mm", "0"]
    assert main([str(raw.parent / "all.csv"), *options, "--device", "cpu"]) == 0
    assert (out / "lnq2023-train-0001-ct" / "review.html").is_file()
    content = json.loads((out / "lnq2023-train-0001-ct" / "candidates.json").read_text())
    assert content["made_from"]["case"]["label"] == "" and content["case"] == "lnq2023-train-0001-ct"


def test_an_interrupted_run_goes_on(raw: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def failing(*given: object) -> Found:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return find_candidates(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(module, "find_candidates", failing)
        with pytest.raises(KeyboardInterrupt):
            main(command(raw, tiny_bundle))
    assert [path.name for path in (raw.parent / "out").iterdir()] == ["lnq2023-train-0001"]
    assert main(command(raw, tiny_bundle)) == 0
    assert (raw.parent / "out" / "candidates.csv").is_file()


def test_one_bad_case_leaves_the_others(raw: Path, thorax: Volume, tiny_bundle: Path, capsys) -> None:
    write_volume(thorax.with_array(np.zeros(thorax.shape, np.uint8)), raw / "lnq2023-train-0002-seg.nrrd")
    assert main(command(raw, tiny_bundle)) == 1
    assert "lnq2023-train-0002 is left out: lnq2023-train-0002-seg.nrrd marks no voxel" in capsys.readouterr().err
    (raw / "lnq2023-train-0001-ct.nrrd").write_bytes(b"NRRD0004\n")
    assert main(command(raw, tiny_bundle)) == 2
    assert "Error: No case could be looked at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--flips", "5"], "--flips must be 1 to 4, not 5"),
        (["--threshold", "1.5"], "--threshold must lie between 0 and 1, not 1.5"),
        (["--levels", "0"], "--levels must be 1 or more, not 0"),
        (["--annotation", "full"], "Every node of these cases is annotated: there is nothing to propose"),
    ],
)
def test_what_makes_no_sense_is_said(raw: Path, tiny_bundle: Path, capsys, options: list[str], sentence: str) -> None:
    assert main(command(raw, tiny_bundle, *options)) == 2
    assert f"Error: {sentence}" in capsys.readouterr().err
    assert not (raw.parent / "out").exists()


def test_a_runs_checkpoint_looks_too(raw: Path, tiny_bundle: Path, monkeypatch) -> None:
    seen: list[int] = []
    exported: list[Path] = []

    def export(checkpoints: Sequence[Path], folder: Path) -> None:
        exported.extend(checkpoints)
        shutil.copytree(tiny_bundle, folder)

    monkeypatch.setattr("training.bundle.write.export", export)
    monkeypatch.setattr(module, "find_candidates", lambda *given: seen.append(len(given[2])) or find_candidates(*given))
    arguments = [str(raw), "--checkpoints", "run/finetune.pt", "-o", str(raw.parent / "out"), "--flips", "1"]
    assert main(arguments) == 0
    assert seen == [1, 1] and exported == [Path("run/finetune.pt")]
