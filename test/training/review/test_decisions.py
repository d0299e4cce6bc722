"""Decisions files: read, refused where they are damaged or about something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.reviews import TIME, decide, write_candidates, write_decisions

from lnq.image.volume import Volume, make_affine
from training.review.decisions import (
    AddedNode,
    decision_files,
    digest_of_ct,
    read_decisions,
    refuse_others,
    subject_of,
)


@pytest.fixture
def ct() -> Volume:
    hu = np.random.default_rng(0).integers(-50, 90, (20, 30, 30)).astype(np.int16)
    return Volume(hu, make_affine((3.0, 2.0, 2.0), (-30.0, -30.0, 0.0)))


@pytest.fixture
def folder(tmp_path: Path, ct: Volume) -> Path:
    write_candidates(tmp_path / "case", ct, [(-14.0, -14.0, 15.0), (14.0, 14.0, 45.0)])
    return tmp_path / "case"


def test_what_is_saved_is_read(folder: Path, tmp_path: Path) -> None:
    added = (AddedNode((1.0, 2.0, 3.0), 0.25, None, TIME), AddedNode((1.0, 2.0, 3.0), None, 5.0, TIME))
    decisions = decide(folder, {1: "node", 2: "unsure"}, thresholds={1: 0.3}, added=added, complete_from_mm=8.0)
    path = write_decisions(tmp_path / "a.decisions.json", decisions)
    assert read_decisions(path) == decisions
    refuse_others(decisions, path, folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reader": " "}, "is damaged: it names no reader"),
        ({"format": 2}, "has format 2, this program reads format 1"),
        ({"saved": "yesterday"}, "is damaged: 'yesterday' is no time"),
        ({"reader": 3}, "is damaged: reader is 3"),
        ({"surplus": 1}, "is damaged: unknown entry 'surplus'"),
        ({"complete_from_mm": -1.0}, "is damaged: nodes of at least -1 mm make no sense"),
        ({"rejected": {"reason": "", "time": TIME}}, "is damaged: the CT is rejected without a reason"),
        (
            {"judged": [{"candidate": 1, "verdict": "maybe", "threshold": None, "time": TIME}]},
            "is damaged: the verdict 'maybe' is none of node, no node, unsure",
        ),
        (
            {"judged": [{"candidate": 1, "verdict": "node", "threshold": 1.5, "time": TIME}]},
            "is damaged: a threshold must lie between 0 and 1, not 1.5",
        ),
        (
            {"judged": 2 * [{"candidate": 1, "verdict": "node", "threshold": None, "time": TIME}]},
            "is damaged: a candidate is judged twice",
        ),
        (
            {"added": [{"lps_mm": [0, 0, 0], "threshold": None, "radius_mm": 90, "time": TIME}]},
            "is damaged: a radius must be 1 to 30 mm, not 90",
        ),
        (
            {"added": [{"lps_mm": [0, 0, 0], "threshold": 0.2, "radius_mm": 3, "time": TIME}]},
            "is damaged: an added node has not just one of threshold and radius",
        ),
        ({"added": [{"lps_mm": [0, 0], "threshold": 0.2, "radius_mm": None, "time": TIME}]}, "is damaged: lps_mm is"),
        ({"judged": 7}, "is damaged: judged is 7"),
        ({"reader": "a\u0007"}, "is damaged: its reader's name 'a\\x07' cannot be written"),
        ({"reader": "\ud800"}, "is damaged: its reader's name '\\ud800' cannot be written"),
        (
            {"added": [{"lps_mm": [10**400, 0, 0], "threshold": 0.2, "radius_mm": None, "time": TIME}]},
            "is damaged: int too large to convert to float",
        ),
        ({"subject": {"ct": 1}}, "is damaged: "),
    ],
)
def test_a_damaged_file_is_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = write_decisions(tmp_path / "a.decisions.json", decide(folder, {1: "node"}), **changes)
    with pytest.raises(ValueError) as caught:
        read_decisions(path)
    assert str(caught.value).startswith(f"{path} {reason}")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"case": "a"}', "\udcff", 100_000 * "["])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=f"^{path} is no decisions file, or it is damaged$"):
        read_decisions(path)


def test_half_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    path = write_decisions(tmp_path / "a.decisions.json", decide(folder, {1: "node"}))
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match="is no decisions file, or it is damaged"):
        read_decisions(path)


def test_decisions_on_something_else_are_refused(folder: Path, tmp_path: Path, ct: Volume) -> None:
    decisions = decide(folder, {1: "node"})
    path = Path("x")
    other = tmp_path / "other" / "case"
    write_candidates(other, ct.with_array(ct.array + 1), [(-14.0, -14.0, 15.0)])
    with pytest.raises(ValueError, match=f"^x judges another CT than that of {other}$"):
        refuse_others(decisions, path, other)
    write_candidates(other, ct, [(-14.0, -14.0, 15.0)])
    with pytest.raises(ValueError, match=f"^x judges another list of candidates than that of {other}$"):
        refuse_others(decisions, path, other)
    listed = other / "candidates.json"
    content = json.loads(listed.read_text())
    content["made_from"]["weights"] = ["cd" * 32]
    listed.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"^x judges what other weights proposed than those of {other}$"):
        refuse_others(decisions, path, other)
    with pytest.raises(ValueError, match="^x is damaged: it judges candidate 3 of 2$"):
        refuse_others(decide(folder, {3: "node"}), path, folder)
    with pytest.raises(ValueError, match="holds no list of candidates: run training.propose first"):
        subject_of(tmp_path / "nowhere")


def test_a_cts_hash_depends_on_its_voxels_and_its_place(ct: Volume) -> None:
    moved = Volume(ct.array, make_affine((3.0, 2.0, 2.0), (-30.0, -30.0, 0.01)))
    other = ct.array.copy()
    other[3, 4, 5] += 1
    assert len({digest_of_ct(ct), digest_of_ct(moved), digest_of_ct(ct.with_array(other))}) == 3
    assert digest_of_ct(ct.with_array(ct.array.astype(np.float32))) == digest_of_ct(ct)


def test_files_are_found_in_folders(tmp_path: Path) -> None:
    for name in ("a/x.decisions.json", "a/x.decisions (1).json", "b.decisions.json", "a/other.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    names = [path.name for path in decision_files([tmp_path, tmp_path / "a" / "other.json"])]
    assert names == ["other.json", "x.decisions (1).json", "x.decisions.json", "b.decisions.json"]
    with pytest.raises(ValueError, match="gone does not exist"):
        decision_files([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^No file named \*.decisions.json in "):
        decision_files([tmp_path / "empty"])
