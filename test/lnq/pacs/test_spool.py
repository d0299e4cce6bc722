"""The queue on disk: what was acknowledged stays, each study is done once, a kill at any place loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time

import pytest

from lnq.errors import StartError
from lnq.pacs.entry import Entry, ObjectName, StudyOutcome
from lnq.pacs.spool import Spool

STUDY, OTHER = "a" * 32, "b" * 32


def name_of(data: bytes) -> ObjectName:
    """Of an object that its first byte tells from others."""
    which, content = (hashlib.sha256(part).hexdigest()[:32] for part in (data[:1], data))
    return ObjectName(which, content)


def stem_of(data: bytes) -> str:
    return name_of(data).file.removesuffix(".dcm")


def arrive(spool: Spool, study: str, *objects: bytes) -> None:
    for data in objects:
        spool.add(study, name_of(data), data)


def done(spool: Spool, study: str, *objects: bytes) -> None:
    arrive(spool, study, *objects)
    entry = spool.complete(study)
    assert entry is not None
    entry.note_outcome(StudyOutcome(("x.dcm",)))
    spool.finish(entry)


def contents(entry: Entry) -> list[bytes]:
    return sorted(path.read_bytes() for path in entry.objects.iterdir())


def test_a_study_goes_from_arriving_through_the_queue_to_done(spool):
    arrive(spool, STUDY, b"1", b"2", b"1")
    assert spool.arriving() == [STUDY] and spool.entries() == []
    entry = spool.complete(STUDY)
    assert entry is not None and contents(entry) == [b"1", b"2"] and entry.study == STUDY
    assert spool.arriving() == [] and spool.entries() == [entry] and entry.outcome() is None
    entry.note_outcome(StudyOutcome(("result/a.dcm",), ("said",)))
    assert Spool(spool.folder).entries()[0].outcome() == StudyOutcome(("result/a.dcm",), ("said",))
    spool.finish(entry)
    ended = spool.done(STUDY)
    assert ended is not None and set(ended.objects) == {stem_of(b"1"), stem_of(b"2")} and ended.sentences == ("said",)
    assert spool.entries() == [] and abs(ended.when - time.time()) < 60


def test_folders_are_their_owners_alone(spool):
    arrive(spool, STUDY, b"1")
    folders = [path for path in spool.folder.rglob("*") if path.is_dir()]
    assert folders and all(path.stat().st_mode & 0o077 == 0 for path in [spool.folder, *folders])


def test_what_was_done_before_is_not_done_again(spool, caplog):
    done(spool, STUDY, b"1", b"2")
    caplog.set_level("INFO")
    arrive(spool, STUDY, b"2", b"1")
    assert spool.complete(STUDY) is None and spool.arriving() == [] and spool.entries() == []
    assert caplog.messages[-1] == "Study aaaaaaaa came again, and brings nothing new"


def test_late_objects_join_those_that_were_done(spool):
    done(spool, STUDY, b"1", b"2")
    arrive(spool, STUDY, b"3")
    entry = spool.complete(STUDY)
    assert entry is not None and contents(entry) == [b"1", b"2", b"3"]


def test_objects_of_a_failed_study_join_those_that_come_again(spool):
    arrive(spool, STUDY, b"1", b"2")
    spool.fail(spool.complete(STUDY), ("No good",))
    failed = spool.failed(STUDY)
    assert spool.failures() == [STUDY] and failed is not None and failed.sentences == ("No good",)
    arrive(spool, STUDY, b"1", b"3")
    entry = spool.complete(STUDY)
    assert entry is not None and contents(entry) == [b"1", b"2", b"3"]
    entry.note_outcome(StudyOutcome(("x.dcm",)))
    spool.finish(entry)
    assert spool.failures() == []


def test_a_study_is_complete_when_it_was_quiet_for_long_enough(spool):
    arrive(spool, STUDY, b"1")
    assert spool.complete(STUDY, 60.0) is None and spool.arriving() == [STUDY]
    spool._last[STUDY] -= 61
    assert spool.complete(STUDY, 60.0) is not None


def test_a_newer_version_of_an_object_takes_the_place_of_the_older_one(spool):
    arrive(spool, STUDY, b"1 cut", b"2", b"1 whole")
    assert contents(spool.complete(STUDY)) == [b"1 whole", b"2"]
    arrive(spool, STUDY, b"2 new")
    assert contents(spool.complete(STUDY)) == [b"1 whole", b"2 new"]  # of the entry that waits too
    assert len(spool.entries()) == 1


def test_what_comes_while_the_study_waits_joins_it(spool):
    arrive(spool, STUDY, b"1", b"2")
    spool.complete(STUDY)
    arrive(spool, STUDY, b"3")
    assert contents(spool.complete(STUDY)) == [b"1", b"2", b"3"] and len(spool.entries()) == 1


def test_an_object_that_was_refused_is_waited_for(spool):
    arrive(spool, STUDY, b"1")
    spool.owe(STUDY, name_of(b"2"))
    assert spool.complete(STUDY) is None
    again = Spool(spool.folder, least_free_gb=0.0)  # also after a restart
    again.make()
    again.tidy()
    assert again.complete(STUDY) is None
    arrive(again, STUDY, b"2")
    assert contents(again.complete(STUDY)) == [b"1", b"2"]


def test_an_object_that_never_comes_fails_its_study(spool):
    arrive(spool, STUDY, b"1")
    spool.owe(STUDY, name_of(b"2"))
    spool._last[STUDY] -= 25 * 3600
    outcome = spool.complete(STUDY).outcome()
    assert outcome.files == () and outcome.sentences[0].startswith("Objects of it were offered when there was no room")


def test_late_objects_whose_earlier_ones_are_gone_are_no_study(spool):
    done(spool, STUDY, b"1", b"2")
    spool._remove(spool.folder / "kept" / STUDY)
    arrive(spool, STUDY, b"3")
    entry = spool.complete(STUDY)
    sentence = "Some objects came late, and the earlier ones are kept no longer: send the whole study again"
    assert entry.outcome() == StudyOutcome((), (sentence,))
    spool.fail(entry, (sentence,))
    arrive(spool, STUDY, b"1", b"2", b"3")
    entry = spool.complete(STUDY)
    assert entry.outcome() is None and contents(entry) == [b"1", b"2", b"3"]


def test_what_late_objects_will_need_is_not_pruned(spool):
    done(spool, STUDY, b"1")
    arrive(spool, STUDY, b"2")
    spool.keep_hours = 0.0
    spool.prune()
    assert contents(spool.complete(STUDY)) == [b"1", b"2"]


def test_nothing_is_no_study(spool):
    (spool.folder / "arriving" / STUDY).mkdir()
    assert spool.complete(STUDY) is None and spool.arriving() == [] and spool.entries() == []


def test_a_study_waits_for_its_earlier_results_and_no_other(spool):
    arrive(spool, STUDY, b"1")
    first = spool.complete(STUDY)
    first.note_outcome(StudyOutcome(("x.dcm",)))
    arrive(spool, STUDY, b"2")
    arrive(spool, OTHER, b"3")
    assert spool.complete(STUDY) is None and spool.arriving() == [STUDY, OTHER]
    second = spool.complete(OTHER)
    assert spool.entries() == [first, second]
    spool.fail(first, ())
    assert contents(spool.complete(STUDY)) == [b"1", b"2"]


def test_where_results_arrived_and_where_never(spool):
    arrive(spool, STUDY, b"1")
    entry = spool.complete(STUDY)
    assert entry.sent() == frozenset() and entry.refused() == {}
    entry.note_sent("A")
    entry.note_sent("B")
    entry.note_refused("C", "no")
    again = Entry(entry.folder)
    assert again.sent() == {"A", "B"} and again.refused() == {"C": "no"}


class Killed(BaseException):
    pass


def steps_of(spool: Spool) -> None:
    """One study from its arrival to its end."""
    arrive(spool, STUDY, b"1", b"2")
    entry = spool.complete(STUDY)
    if entry is not None:
        entry.note_outcome(StudyOutcome(("x.dcm",)))
        entry.note_sent("A")
        spool.finish(entry)


def test_killed_at_any_step_it_is_done_once_with_all_its_objects(tmp_path, monkeypatch):
    real = {name: getattr(os, name) for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "link")}
    reached = 0
    for limit in range(1, 60):
        spool = Spool(tmp_path / str(limit), least_free_gb=0.0)
        spool.make()
        left = [limit]

        def killing(name):
            def call(*arguments, **options):
                left[0] -= 1  # noqa: B023
                if left[0] == 0:  # noqa: B023
                    raise Killed
                return real[name](*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            for name in real:
                patched.setattr(os, name, killing(name))
            try:
                steps_of(spool)
            except Killed:
                reached = limit
        again = Spool(spool.folder, least_free_gb=0.0)
        again.make()
        again.tidy()
        for entry in again.entries():  # what a node does when it starts again
            assert contents(entry) == [b"1", b"2"]
            entry.note_outcome(StudyOutcome(("x.dcm",)))
            again.finish(entry)
        arrive(again, STUDY, b"1", b"2")  # the sender had no answer, and sends again
        entry = again.complete(STUDY)
        if entry is not None:
            assert contents(entry) == [b"1", b"2"]
            entry.note_outcome(StudyOutcome(("x.dcm",)))
            again.finish(entry)
        assert set(again.done(STUDY).objects) == {stem_of(b"1"), stem_of(b"2")}
        assert again.entries() == [] and again.arriving() == []
    assert 15 < reached < 59  # every step was tried


def test_old_objects_make_room(spool):
    done(spool, STUDY, b"1")
    done(spool, OTHER, b"2")
    record = spool.folder / "done" / f"{STUDY}.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"when": time.time() - 25 * 3600}))
    spool.prune()
    assert [path.name for path in (spool.folder / "kept").iterdir()] == [OTHER]
    spool.least_free_gb = 1e9  # the disk is full
    assert not spool.has_room()
    spool.prune()
    assert not list((spool.folder / "kept").iterdir()) and not list((spool.folder / "removed").iterdir())


def test_a_full_disk_has_no_room(spool):
    free = shutil.disk_usage(spool.folder).free
    spool.least_free_gb = free / 2 / 1e9
    assert spool.has_room() and not spool.has_room(free)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"^The spool .*/file/spool cannot be written: Not a directory$"):
        Spool(tmp_path / "file" / "spool").make()
