"""The node's port, called by pynetdicom: who is let in, what is kept, what is answered."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom")

from helpers.certificates import make_certificates
from helpers.pacs import ct_object, free_port, send, wait_for, write_objects
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from lnq.pacs.port import Port, addresses_of, is_known
from lnq.pacs.receive import Commitments, Receiver, study_of
from lnq.pacs.settings import Caller, NodeSettings, To
from lnq.pacs.spool import Spool

KEY = "k"


@pytest.fixture
def port(tmp_path: Path, spool: Spool) -> Iterator[Port]:
    settings = NodeSettings(
        tmp_path, (To(folder=tmp_path / "out"),), (Caller("SENDER", "127.0.0.1"), Caller("AWAY", "10.9.8.7")),
        port=free_port(), associations=2,
    )  # fmt: skip
    made = Port(settings, Receiver(spool, KEY), Commitments())
    made.open()
    yield made
    made.close()


def test_echo(port):
    entity = AE("SENDER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port.settings.port, ae_title="LNQ")
    assert association.send_c_echo().Status == 0
    association.release()


def test_objects_are_kept_byte_for_byte_by_patient_and_study(port, spool, tmp_path):
    one, two, other = ct_object(), ct_object(), ct_object("P2")
    paths = write_objects(tmp_path, one, two, other)
    assert send(paths, port.settings.port, "SENDER") == [0, 0, 0]
    assert sorted(spool.arriving()) == sorted({study_of(one, KEY), study_of(other, KEY)})
    kept = [dcmread(path) for path in (spool.folder / "arriving" / study_of(one, KEY)).iterdir()]
    assert {o.SOPInstanceUID for o in kept} == {one.SOPInstanceUID, two.SOPInstanceUID}
    assert all(o.PixelData == one.PixelData and o.PatientID == "P1" for o in kept)
    assert all(o.file_meta.TransferSyntaxUID == one.file_meta.TransferSyntaxUID for o in kept)


def test_the_same_object_is_kept_once(port, spool, tmp_path):
    paths = write_objects(tmp_path, ct_object(uid="1.2.9"))
    assert send(paths * 3, port.settings.port, "SENDER") == [0, 0, 0]
    assert len(list((spool.folder / "arriving").glob("*/*.dcm"))) == 1


@pytest.mark.parametrize(("title", "called"), [("OTHER", "LNQ"), ("AWAY", "LNQ"), ("SENDER", "ELSE"), ("", "LNQ")])
def test_strangers_are_refused(port, spool, tmp_path, title, called):
    assert send(write_objects(tmp_path, ct_object()), port.settings.port, title or "PYNETDICOM", called) == []
    assert spool.arriving() == []


def test_no_more_associations_than_allowed(port):
    entity = AE("SENDER")
    entity.add_requested_context(Verification)
    held = [entity.associate("127.0.0.1", port.settings.port, ae_title="LNQ") for _ in range(3)]
    assert [one.is_established for one in held] == [True, True, False]
    for one in held[:2]:
        one.release()


def test_who_is_known():
    callers = [Caller("A", "10.0.0.1"), Caller("B"), Caller("C", "::1")]
    assert is_known("A", "10.0.0.1", callers) and is_known("A", "::ffff:10.0.0.1", callers)
    assert is_known("B", "1.2.3.4", callers) and is_known("C", "0:0:0:0:0:0:0:1", callers)
    assert not is_known("A", "10.0.0.2", callers) and not is_known("D", "10.0.0.1", callers)
    assert not is_known("A", "", callers) and not is_known("a", "10.0.0.1", callers)


def test_an_association_that_cannot_be_judged_is_refused(port, tmp_path, monkeypatch):
    monkeypatch.setattr("lnq.pacs.port.is_known", lambda *_: 1 / 0)
    assert send(write_objects(tmp_path, ct_object()), port.settings.port, "SENDER") == []


def test_who_only_answers_commitment_stores_nothing(tmp_path, spool):
    to = To(store="PACS@localhost:1", commitment=True)
    settings = NodeSettings(tmp_path, (to,), (Caller("SENDER"),), port=free_port())
    port = Port(settings, Receiver(spool, KEY), Commitments())
    port.open()
    try:
        assert send(write_objects(tmp_path, ct_object()), settings.port, "PACS") == [0x0124] and spool.arriving() == []
    finally:
        port.close()


def test_addresses_of_hosts():
    assert "127.0.0.1" in addresses_of("127.0.0.1") and addresses_of("bad..host") == []
    assert addresses_of("x" * 70) == []


def test_a_silent_connection_holds_up_nobody(tmp_path, spool):
    own = make_certificates(tmp_path).own
    settings = NodeSettings(tmp_path, (To(folder=tmp_path),), (Caller("SENDER"),), port=free_port(), tls=own)
    port = Port(settings, Receiver(spool, KEY), Commitments())
    port.open()
    with socket.create_connection(("127.0.0.1", settings.port)):
        assert send(write_objects(tmp_path, ct_object()), settings.port, "SENDER", tls=own) == [0]
        begun = time.monotonic()
        port.close()
        assert time.monotonic() - begun < 5


def test_closing_ends_the_associations_that_are_there(port):
    entity = AE("SENDER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port.settings.port, ae_title="LNQ")
    port.close()
    wait_for(lambda: not association.is_established, 10)


def test_a_study_is_held_back_while_its_sender_is_there(port, tmp_path):
    one = ct_object()
    [path] = write_objects(tmp_path, one)
    entity = AE("SENDER")
    entity.add_requested_context(CTImageStorage, one.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port.settings.port, ae_title="LNQ")
    assert association.send_c_store(path).Status == 0 and port.brings(study_of(one, KEY))
    association.release()
    wait_for(lambda: not port.brings(study_of(one, KEY)), 10)
