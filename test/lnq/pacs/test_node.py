"""A node's steps: complete studies are segmented one by one, and each result goes to each destination once."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("pynetdicom")

from lnq.errors import BundleError, Stopped
from lnq.pacs import node as node_module
from lnq.pacs.deliver import Away, Refused
from lnq.pacs.entry import ObjectName, StudyOutcome
from lnq.pacs.node import Deliverer, DicomNode
from lnq.pacs.settings import NodeSettings, To
from lnq.pacs.spool import Spool
from lnq.pacs.work import Segmenting
from lnq.results.case_record import ResultOptions

STUDIES = ["a" * 32, "b" * 32, "c" * 32]


@dataclass
class Place:
    """A destination that does as it is told."""

    name: str = "PLACE"
    problems: list[Exception] = field(default_factory=list)
    came: list[tuple[str, list[str]]] = field(default_factory=list)

    def send(self, study: str, files: Sequence[Path]) -> None:
        if self.problems:
            raise self.problems.pop(0)
        self.came.append((study, [path.read_text() for path in files]))


@pytest.fixture
def node(tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> DicomNode:
    """A node whose segmenting writes one file, and fails where the study holds the object `bad`."""
    settings = NodeSettings(spool.folder, (To(folder=tmp_path / "out"),), watch=tmp_path, quiet_seconds=0.0)

    def segment(objects: Path, folder: Path, _how: Segmenting, stop: threading.Event) -> StudyOutcome:
        if stop.is_set():
            raise Stopped
        names = {path.stem.partition("-")[0] for path in objects.iterdir()}
        if "bad" in names:
            return StudyOutcome((), ("It is bad",))
        (folder / "r.dcm").write_text(f"of {len(names)}")
        return StudyOutcome(("r.dcm",), ("It is thick",))

    monkeypatch.setattr(node_module, "segment_study", segment)
    made = DicomNode(settings, Segmenting(tmp_path, ResultOptions(), "k"), spool)
    made._names = ["PLACE"]
    return made


def deliverer(spool: Spool, place: Place) -> Deliverer:
    return Deliverer(spool, place, threading.Lock())


def deliver(one: Deliverer) -> None:
    one.deliver(lambda: False)


def due_now(one: Deliverer) -> None:
    one._away.due = 0.0
    for waiting in one._refused.values():
        waiting.due = 0.0


def test_studies_go_through_in_the_order_of_arrival(node, spool, caplog):
    caplog.set_level("INFO")
    place = Place()
    for study in STUDIES:
        spool.add(study, ObjectName("1", "x"), b"1")
        spool.add(study, ObjectName("2", "x"), b"2")
    for _ in range(5):
        node.step()
        deliver(deliverer(spool, place))
    assert place.came == [(study, ["of 2"]) for study in STUDIES]
    assert spool.entries() == [] and spool.arriving() == [] and not node.stop.is_set()
    assert "Study aaaaaaaa: It is thick" in caplog.messages and "Study cccccccc is done" in caplog.messages


def test_a_study_is_complete_when_it_was_quiet_for_long_enough(node, spool):
    node.settings = NodeSettings(spool.folder, node.settings.to, watch=spool.folder, quiet_seconds=60.0)
    spool.add(STUDIES[0], ObjectName("1", "x"), b"1")
    node.step()
    assert spool.arriving() == [STUDIES[0]] and spool.entries() == []
    spool._last[STUDIES[0]] = time.monotonic() - 61
    node.step()
    assert spool.arriving() == []


def test_a_bad_study_fails_alone(node, spool, caplog):
    for study, name in zip(STUDIES, ("1", "bad", "2"), strict=True):
        spool.add(study, ObjectName(name, "x"), b"1")
    place = Place()
    for _ in range(5):
        node.step()
        deliver(deliverer(spool, place))
    assert [study for study, _ in place.came] == [STUDIES[0], STUDIES[2]]
    assert spool.failures() == [STUDIES[1]] and "Study bbbbbbbb failed: It is bad" in caplog.messages


def test_on_a_full_disk_studies_wait(node, spool):
    spool.add(STUDIES[0], ObjectName("bad", "x"), b"1")
    spool.complete(STUDIES[0])
    spool.add(STUDIES[1], ObjectName("1", "x"), b"1")
    spool.least_free_gb = 1e9
    for _ in range(3):
        node.step()
    assert spool.arriving() == [STUDIES[1]]
    assert [entry.study for entry in spool.entries()] == [STUDIES[0]] and spool.failures() == []


def test_nothing_is_complete_while_its_sender_is_there(node, spool):
    node._port = SimpleNamespace(brings=lambda study: study == STUDIES[0])
    for study in STUDIES[:2]:
        spool.add(study, ObjectName("1", "x"), b"1")
    node.step()
    assert spool.arriving() == [STUDIES[0]]


def test_a_study_waits_for_what_is_coming_in_of_it(node, spool):
    spool.add(STUDIES[0], ObjectName("1", "x"), b"1")
    spool.complete(STUDIES[0])
    spool.add(STUDIES[0], ObjectName("2", "x"), b"2")
    node.settings = dataclasses.replace(node.settings, quiet_seconds=60.0)
    node.step()
    assert [entry.outcome() for entry in spool.entries()] == [None]
    spool._last[STUDIES[0]] -= 61
    node.step()
    [entry] = spool.entries()
    assert (entry.folder / "r.dcm").read_text() == "of 2"


def test_an_unforeseen_fault_fails_its_study_and_ends_nothing(node, spool, monkeypatch, caplog):
    def fault(*_):
        raise RuntimeError("MUELLER^HEINZ")

    monkeypatch.setattr(node_module, "segment_study", fault)
    spool.add(STUDIES[0], ObjectName("1", "x"), b"1")
    node.step()
    node.step()
    assert spool.failures() == [STUDIES[0]] and "MUELLER" not in caplog.text
    assert "Study aaaaaaaa failed: Stopped by an unforeseen RuntimeError" in caplog.messages


def test_where_the_model_cannot_be_loaded_studies_wait(node, spool, monkeypatch, caplog):
    def fault(*_):
        raise BundleError("The bundle is damaged")

    monkeypatch.setattr(node_module, "segment_study", fault)
    monkeypatch.setattr(node_module, "_LONG_WAIT", 0.0)
    spool.add(STUDIES[0], ObjectName("1", "x"), b"1")
    node.step()
    assert [entry.outcome() for entry in spool.entries()] == [None]
    assert caplog.messages[-1] == "Nothing can be segmented, and is tried again in 0 s: The bundle is damaged"


def test_results_that_cannot_be_read_hold_no_others_up(node, spool, caplog):
    segmented(node, spool, *STUDIES[:2])
    place = Place(problems=[FileNotFoundError("secret")])
    deliver(deliverer(spool, place))
    assert [study for study, _ in place.came] == [STUDIES[1]]
    assert "they cannot be sent (FileNotFoundError)" in caplog.text and "secret" not in caplog.text


def test_told_to_stop_a_study_stays_in_the_queue(node, spool):
    spool.add(STUDIES[0], ObjectName("1", "x"), b"1")
    node.stop.set()
    node.step()
    assert [entry.outcome() for entry in spool.entries()] == [None]


def segmented(node: DicomNode, spool: Spool, *studies: str) -> None:
    for study in studies:
        spool.add(study, ObjectName("1", "x"), b"1")
    for _ in studies:
        node.step()


def test_a_destination_that_is_away_is_tried_later_and_later_and_never_given_up(node, spool, caplog):
    segmented(node, spool, *STUDIES[:2])
    place = Place(problems=[Away("no connection")] * 8)
    one = deliverer(spool, place)
    for _ in range(8):
        deliver(one)
        deliver(one)  # it is not due: nothing is tried
        due_now(one)
    told = [message for message in caplog.messages if "PLACE" in message]
    seconds = [5, 10, 20, 40, 80, 160, 300, 300]
    assert told == [f"PLACE is tried again in {s} s: no connection" for s in seconds]
    deliver(one)
    assert [study for study, _ in place.came] == STUDIES[:2]


def test_results_that_are_refused_hold_no_others_up_and_are_given_up_in_the_end(node, spool, caplog):
    segmented(node, spool, *STUDIES[:2])
    place = Place(problems=[Refused("status 0xC000")])
    one = deliverer(spool, place)
    deliver(one)
    assert [study for study, _ in place.came] == [STUDIES[1]]
    for _ in range(9):
        due_now(one)
        place.problems.append(Refused("status 0xC000"))
        deliver(one)
    node.step()
    assert spool.entries() == [] and spool.failures() == [STUDIES[0]]
    sentence = "PLACE refuses the results of study aaaaaaaa: status 0xC000"
    assert spool.failed(STUDIES[0]).sentences == (sentence,)
    assert f"{sentence}; given up after 10 tries" in caplog.messages


def test_each_destination_gets_results_once(node, spool):
    node._names = ["PLACE", "OTHER"]
    segmented(node, spool, STUDIES[0])
    places = Place(), Place("OTHER", [Away("off")])
    ways = [deliverer(spool, place) for place in places]
    for way in ways:
        deliver(way)
    node.step()
    assert len(spool.entries()) == 1
    due_now(ways[1])
    for way in ways:
        deliver(way)
    node.step()
    assert [len(place.came) for place in places] == [1, 1] and spool.entries() == []
