"""The command that makes new labels from decisions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.raw_pairs import node_label, prepare_tiny, write_pair
from helpers.reviews import apply_command, decide, read_table, write_candidates, write_decisions

from lnq.image.itk import read_volume, write_volume
from lnq.image.volume import Volume
from training import apply_review as module
from training.apply_review import main
from training.data.prepared import PreparedCase
from training.data.sources.patient_outlines import read_outlines

NAMES = [f"lnq2023-train-000{n}" for n in (1, 2, 3)]
PLACES_MM = [(0.0, 30.0, 60.0), (-15.0, -40.0, 90.0)]


@pytest.fixture
def raw(thorax: Volume, tmp_path: Path) -> Path:
    """Three cases with two candidates each, of which the first two are reviewed."""
    for name in NAMES:
        write_pair(tmp_path / "raw", name, thorax)
        write_candidates(tmp_path / "found" / name, read_volume(tmp_path / "raw" / f"{name}-ct.nrrd"), PLACES_MM)
    for name, verdicts in zip(NAMES[:2], ({1: "node", 2: "no node"}, {1: "no node"}), strict=True):
        decisions = decide(tmp_path / "found" / name, verdicts)
        write_decisions(tmp_path / "said" / f"{name}.decisions.json", decisions)
    return tmp_path / "raw"


def test_mined_decisions_do_not_count_where_a_person_has_judged(raw: Path) -> None:
    for name, verdict in zip(NAMES[1:], ("node", "node"), strict=True):
        decisions = decide(raw.parent / "found" / name, {1: verdict}, "mined by lnq 0.1.0, seen by nobody")
        write_decisions(raw.parent / "said" / f"{name}.mined.decisions.json", decisions)
    assert main(apply_command(raw)) == 0
    votes = [
        (vote["case"], vote["reader"][:5], vote["outcome"]) for vote in read_table(raw.parent / "new" / "votes.csv")
    ]
    assert (NAMES[1], "A. Re", "no node") in votes and (NAMES[2], "mined", "node") in votes
    assert not [vote for vote in votes if vote[:2] == (NAMES[1], "mined")]


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_version_of_the_labels_is_written_and_prepared(raw: Path, capsys) -> None:
    before = bytes_below(raw)
    assert main(apply_command(raw)) == 0
    new = raw.parent / "new"
    assert bytes_below(raw) == before
    said = capsys.readouterr().err
    assert f"3 cases are in {new}, 1 of the sources were not reviewed, 0 were rejected, 0 are left out" in said
    rows = read_table(new / "cases.csv")
    assert [row["case"] for row in rows] == NAMES
    assert [row["unknown"] for row in rows] == ["2", "2", ""]
    assert rows[2]["label"] == str(raw / f"{NAMES[2]}-seg.nrrd")
    assert read_table(new / "votes.csv")[0] == {
        "case": NAMES[0], "what": "candidate 1", "reader": "A. Reader", "verdict": "node", "outcome": "node",
        "agreed": "yes",
    }  # fmt: skip
    told = json.loads((new / "provenance" / f"{NAMES[0]}.json").read_text())
    said = told["made_from"]["decisions"]["A. Reader"]
    assert said["file"] == f"{NAMES[0]}.decisions.json" and len(said["sha256"]) == 64
    assert (
        told["made_from"]["subject"]["weights"] == ["ab" * 32]
        and told["made_from"]["source"]["label"] == f"{NAMES[0]}-seg.nrrd"
    )
    prepare_tiny(new / "cases.csv", raw.parent / "prepared")
    case = PreparedCase(raw.parent / "prepared" / NAMES[0])
    assert case.info.told and len(case.info.node_centres) == 2  # the annotated and the accepted one
    assert case.whole("told").any() and (case.whole("certain")[case.whole("told") > 0] == 1).all()


def test_labels_of_other_decisions_are_not_overwritten(raw: Path, capsys) -> None:
    assert main(apply_command(raw)) == 0
    new = raw.parent / "new"
    before = bytes_below(new)
    assert main(apply_command(raw)) == 0  # again the same
    assert bytes_below(new) == before
    path = raw.parent / "said" / f"{NAMES[1]}.decisions.json"
    write_decisions(path, decide(raw.parent / "found" / NAMES[1], {1: "node"}))
    assert main(apply_command(raw)) == 2
    assert f"new holds a label of {NAMES[1]} from other decisions or sources: give a folder for a new version" in (
        capsys.readouterr().err
    )
    assert bytes_below(new) == before
    assert main(apply_command(raw, output="newer")) == 0


def test_a_table_does_not_forget_a_label_whose_decisions_are_missing(raw: Path, capsys) -> None:
    assert main(apply_command(raw)) == 0
    before = bytes_below(raw.parent / "new")
    (raw.parent / "said" / f"{NAMES[1]}.decisions.json").unlink()
    assert main(apply_command(raw)) == 2
    assert f"new holds a label of {NAMES[1]} from other decisions or sources" in capsys.readouterr().err
    assert bytes_below(raw.parent / "new") == before


def test_a_label_is_not_kept_when_its_source_changed(raw: Path, thorax: Volume, capsys) -> None:
    assert main(apply_command(raw)) == 0
    label = node_label(thorax, radius_mm=20.0)
    write_volume(thorax.with_array(label), raw / f"{NAMES[0]}-seg.nrrd")
    assert main(apply_command(raw)) == 2
    assert f"new holds a label of {NAMES[0]} from other decisions or sources" in capsys.readouterr().err


def test_more_decisions_later_add_to_what_is_there(raw: Path) -> None:
    assert main(apply_command(raw)) == 0
    decisions = decide(raw.parent / "found" / NAMES[2], {1: "node"})
    write_decisions(raw.parent / "said" / "later.decisions.json", decisions)
    assert main(apply_command(raw)) == 0
    assert [row["unknown"] for row in read_table(raw.parent / "new" / "cases.csv")] == ["2", "2", "2"]


def test_a_later_version_builds_on_an_earlier_one(raw: Path) -> None:
    assert main(apply_command(raw)) == 0
    base = raw.parent
    decisions = decide(base / "found" / NAMES[1], {2: "node"})
    write_decisions(base / "later" / "a.decisions.json", decisions)
    arguments = ["--candidates", str(base / "found"), "--decisions", str(base / "later"), "-o", str(base / "second")]
    assert main([str(base / "new" / "cases.csv"), *arguments]) == 0
    first, second = (read_volume(base / part / "labels" / f"{NAMES[1]}.nrrd").array for part in ("new", "second"))
    numbers = read_volume(base / "found" / NAMES[1] / "candidates.nii.gz").array
    assert (first[numbers == 1] == 0).all() and (first[numbers == 2] == 2).all()
    assert (second[numbers == 1] == 0).all() and (second[numbers == 2] == 1).all()


def test_an_interrupted_run_goes_on(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = module._write_case, 0

    def stopped_at_the_second(*given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_write_case", stopped_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        main(apply_command(raw))
    new = raw.parent / "new"
    assert [path.name for path in (new / "provenance").iterdir()] == [f"{NAMES[0]}.json"]
    assert not (new / "cases.csv").exists()
    assert main(apply_command(raw)) == 0
    assert len(read_table(new / "cases.csv")) == 3


def test_a_rejected_ct_is_left_out_with_its_reason(raw: Path, capsys) -> None:
    path = raw.parent / "said" / f"{NAMES[1]}.decisions.json"
    write_decisions(path, decide(raw.parent / "found" / NAMES[1], {}, rejected="breathing"))
    assert main(apply_command(raw)) == 0
    assert [row["case"] for row in read_table(raw.parent / "new" / "cases.csv")] == [NAMES[0], NAMES[2]]
    assert f"{NAMES[1]} was rejected: breathing (A. Reader)" in capsys.readouterr().err


def test_a_case_of_which_all_nodes_are_marked_becomes_full(raw: Path) -> None:
    path = raw.parent / "said" / f"{NAMES[1]}.decisions.json"
    write_decisions(path, decide(raw.parent / "found" / NAMES[1], {1: "no node"}, complete_from_mm=5.0))
    assert main(apply_command(raw)) == 0
    row = read_table(raw.parent / "new" / "cases.csv")[1]
    label = read_volume(Path(row["label"])).array
    numbers = read_volume(raw.parent / "found" / NAMES[1] / "candidates.nii.gz").array
    assert row["annotation"] == "partial" and (label[numbers == 2] == 2).all()  # nobody judged the second one
    assert (label[(numbers != 2) & (label != 1)] == 0).all()
    write_decisions(path, decide(raw.parent / "found" / NAMES[1], {1: "no node", 2: "no node"}, complete_from_mm=5.0))
    assert main(apply_command(raw, output="newer")) == 0
    row = read_table(raw.parent / "newer" / "cases.csv")[1]
    assert row["annotation"] == "full"
    label = read_volume(Path(row["label"])).array
    np.testing.assert_array_equal(label, node_label(read_volume(Path(row["image"]))))


def test_names_and_reasons_are_written_as_they_are(raw: Path, capsys) -> None:
    folder = raw.parent / "found" / NAMES[0]
    said = raw.parent / "said"
    write_decisions(said / f"{NAMES[0]}.decisions.json", decide(folder, {1: "node"}, reader="=HYPERLINK(1)"))
    reasons = decide(raw.parent / "found" / NAMES[1], {}, rejected="[/] moved [artefact]")
    write_decisions(said / f"{NAMES[1]}.decisions.json", reasons)
    assert main(apply_command(raw)) == 0
    assert f"{NAMES[1]} was rejected: [/] moved [artefact] (A. Reader)" in capsys.readouterr().err
    assert read_table(raw.parent / "new" / "votes.csv")[0]["reader"] == "'=HYPERLINK(1)"


def test_reviewed_cts_that_nobody_annotated_can_be_trained_on(raw: Path, tmp_path: Path) -> None:
    """One gets a node, one has candidates that are none, and one nobody looked at."""
    lines = "".join(f"{name},{raw / name}-ct.nrrd,,none\n" for name in NAMES)
    (tmp_path / "all.csv").write_text(f"case,image,label,annotation\n{lines}")
    for name, verdict in zip(NAMES, ("node", "no node"), strict=False):
        write_candidates(tmp_path / "found" / name, read_volume(raw / f"{name}-ct.nrrd"), PLACES_MM)
        decided = decide(tmp_path / "found" / name, {1: verdict})
        write_decisions(tmp_path / "said" / f"{name}.decisions.json", decided)
    assert main(apply_command(tmp_path / "all.csv")) == 0
    rows = read_table(tmp_path / "new" / "cases.csv")
    assert [(row["annotation"], bool(row["label"]), row["unknown"]) for row in rows] == [
        ("partial", True, "2"), ("partial", True, "2"), ("none", False, ""),
    ]  # fmt: skip
    node, none = (read_volume(Path(row["label"])).array for row in rows[:2])
    assert set(np.unique(node)) == {1, 2} and set(np.unique(none)) == {0, 2}
    said = prepare_tiny(tmp_path / "new" / "cases.csv", tmp_path / "prepared")
    assert f"{NAMES[2]} is left out: Nobody annotated it, so there is nothing to learn from" in said
    assert any("2 cases are prepared (2 of them now), 1 are left out" in line for line in said)
    assert (PreparedCase(tmp_path / "prepared" / NAMES[1]).whole("certain") > 0).any()


def test_labels_are_written_as_outlines_too(raw: Path) -> None:
    assert main(apply_command(raw)) == 0
    new = raw.parent / "new"
    assert not (new / "outlines").exists()
    assert main(apply_command(raw, "--outlines")) == 0  # asked for later
    for name in NAMES[:2]:
        label = read_volume(new / "labels" / f"{name}.nrrd")
        path = new / "outlines" / f"{name}.json"
        np.testing.assert_array_equal(read_outlines(path, label).array, label.array)
        told = json.loads(path.read_text())
        assert told["readers"][0]["reader"] == "A. Reader" and told["case"] == name and len(told["ct"]) == 64


def test_cases_with_a_problem_stay_out(raw: Path, capsys) -> None:
    (raw / f"{NAMES[2]}-info.json").write_text("{")
    assert main(apply_command(raw)) == 1
    assert [row["case"] for row in read_table(raw.parent / "new" / "cases.csv")] == NAMES[:2]
    assert f"{NAMES[2]} is left out: {NAMES[2]}-info.json is damaged" in capsys.readouterr().err


def test_readers_of_one_name_are_one_reader(raw: Path, capsys) -> None:
    decisions = decide(raw.parent / "found" / NAMES[0], {1: "no node"}, reader="a. reader ")
    write_decisions(raw.parent / "said" / "again.decisions.json", decisions)
    assert main(apply_command(raw)) == 2
    assert "keep one of them" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_anything_is_written(raw: Path, capsys) -> None:
    base = raw.parent
    found = base / "found" / NAMES[0]
    stranger = write_decisions(base / "said" / "x.decisions.json", decide(found, {1: "node"}), case="nobody")
    assert main(apply_command(raw)) == 2
    assert f"{stranger} judges 'nobody', which is no case of the sources" in capsys.readouterr().err
    write_decisions(stranger, decide(found, {1: "no node"}))
    assert main(apply_command(raw)) == 2
    first = base / "said" / f"{NAMES[0]}.decisions.json"
    assert f"{first} and {stranger} are both by A. Reader: keep one of them" in capsys.readouterr().err
    stranger.write_text("{")
    assert main(apply_command(raw)) == 2
    assert f"{stranger} is no decisions file, or it is damaged" in capsys.readouterr().err
    assert not (base / "new").exists()


def test_one_case_that_fails_does_not_stop_the_others(raw: Path, capsys) -> None:
    (raw / f"{NAMES[0]}-ct.nrrd").write_bytes(b"NRRD")
    assert main(apply_command(raw)) == 1
    assert [row["case"] for row in read_table(raw.parent / "new" / "cases.csv")] == NAMES[1:]
    assert f"{NAMES[0]} is left out: " in capsys.readouterr().err
