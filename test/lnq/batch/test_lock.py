"""One run at a time, and nothing but its own is removed or written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lnq.batch.case import REPLACED, WORK_FOLDER
from lnq.batch.lock import alone
from lnq.batch.record import CASE_JSON
from lnq.errors import StartError


def leave(output: Path, run: str, case: str) -> Path:
    """What a run killed between two renames has left: an earlier result, and a file."""
    earlier = output / WORK_FOLDER / run / "worker" / "case" / REPLACED
    earlier.mkdir(parents=True)
    (earlier / CASE_JSON).write_text(json.dumps({"case": case}))
    (earlier.parent / "part").touch()
    return earlier


def test_a_run_has_a_work_folder_of_its_own_and_leaves_none(tmp_path):
    with alone(tmp_path, "r1"):
        assert (tmp_path / WORK_FOLDER / "r1").is_dir()
    assert [p.name for p in tmp_path.iterdir()] == [".lnq-lock"]


def test_a_second_run_is_refused(tmp_path):
    with alone(tmp_path, "r1"), pytest.raises(StartError, match="Another run is writing to"), alone(tmp_path, "r2"):
        pass


def test_a_second_run_is_refused_even_where_the_lock_was_deleted(tmp_path):
    with alone(tmp_path, "r1"):
        (tmp_path / ".lnq-lock").unlink()
        with pytest.raises(StartError, match="Another run is writing to"), alone(tmp_path, "r2"):
            pass
        assert (tmp_path / WORK_FOLDER / "r1").is_dir()


@pytest.mark.parametrize("name", [".lnq-lock", WORK_FOLDER])
def test_a_link_in_the_place_of_lock_or_work_folder_is_not_followed(tmp_path, name):
    (tmp_path / "outside").mkdir()
    target = tmp_path / "outside" / "target"
    if name == WORK_FOLDER:
        target.mkdir()
        (target / "kept").touch()
    else:
        target.write_text("kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(target)
    with pytest.raises(StartError, match=f"{name} is (a link|not a folder): remove it"), alone(tmp_path / "out", "r1"):
        pass
    assert (target / "kept").exists() if target.is_dir() else target.read_text() == "kept"


def test_what_a_killed_run_left_is_removed_and_an_earlier_result_comes_back(tmp_path):
    leave(tmp_path, "dead", "ct0")
    leave(tmp_path, "dead2", "ct1")
    (tmp_path / "ct1").mkdir()
    (tmp_path / ".abc.part-manifest.jsonl").touch()
    with alone(tmp_path, "r1"):
        assert [p.name for p in (tmp_path / WORK_FOLDER).iterdir()] == ["r1"]
    assert json.loads((tmp_path / "ct0" / CASE_JSON).read_text()) == {"case": "ct0"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lnq-lock", "ct0", "ct1"]


@pytest.mark.parametrize("case", ["../ct0", "/tmp/ct0", "", ".", ".."])
def test_no_record_brings_a_result_back_to_another_place(tmp_path, case):
    out = tmp_path / "out"
    out.mkdir()
    leave(out, "dead", case)
    with alone(out, "r1"):
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".lnq-lock", "out"]


def test_the_work_of_a_run_that_goes_on_is_never_removed(tmp_path):
    """Where another machine's lock on the output is not seen, that of the work folder still may be."""
    with alone(tmp_path, "r1"):
        busy = tmp_path / WORK_FOLDER / "r1"
        (busy / "result").touch()
        lock = busy / ".lnq-lock"
        other = tmp_path / "other"
        other.mkdir()
        (other / WORK_FOLDER).mkdir()
        linked = other / WORK_FOLDER / "r1"
        linked.mkdir()
        (linked / ".lnq-lock").hardlink_to(lock)
        (linked / "result").touch()
        with alone(other, "r2"):
            assert (linked / "result").exists()
