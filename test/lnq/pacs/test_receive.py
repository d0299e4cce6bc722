"""The node's port, called by pynetdicom: who is let in, what is kept, what is answered."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pynetdicom")

import numpy as np
from helpers.dicom_slices import slice_dataset
from helpers.pacs import free_port, send
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, SegmentationStorage, generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from lnq.pacs.receive import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Commitments, Port, Receiver, is_known, study_of
from lnq.pacs.settings import Caller, NodeSettings, To
from lnq.pacs.spool import Spool

KEY = "k"


def object_of(patient: str = "P1", uid: str | None = None, **tags: object) -> Dataset:
    given = {"PatientID": patient, "StudyInstanceUID": "1.2.3", "SOPInstanceUID": uid or generate_uid()}
    return slice_dataset(np.zeros((4, 4), np.uint16), (0, 0, 0), **(given | tags))


def write(folder: Path, *objects: Dataset) -> list[Path]:
    paths = []
    for number, one in enumerate(objects):
        paths.append(folder / f"{number}.dcm")
        one.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool", least_free_gb=0.0)
    made.make()
    return made


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
    one, two, other = object_of(), object_of(), object_of("P2")
    paths = write(tmp_path, one, two, other)
    assert send(paths, port.settings.port, "SENDER") == [0, 0, 0]
    assert sorted(spool.arriving()) == sorted({study_of(one, KEY), study_of(other, KEY)})
    kept = [dcmread(path) for path in (spool.folder / "arriving" / study_of(one, KEY)).iterdir()]
    assert {o.SOPInstanceUID for o in kept} == {one.SOPInstanceUID, two.SOPInstanceUID}
    assert all(o.PixelData == one.PixelData and o.PatientID == "P1" for o in kept)
    assert all(o.file_meta.TransferSyntaxUID == one.file_meta.TransferSyntaxUID for o in kept)


def test_the_same_object_is_kept_once(port, spool, tmp_path):
    paths = write(tmp_path, object_of(uid="1.2.9"))
    assert send(paths * 3, port.settings.port, "SENDER") == [0, 0, 0]
    assert len(list((spool.folder / "arriving").glob("*/*.dcm"))) == 1


@pytest.mark.parametrize(("title", "called"), [("OTHER", "LNQ"), ("AWAY", "LNQ"), ("SENDER", "ELSE"), ("", "LNQ")])
def test_strangers_are_refused(port, spool, tmp_path, title, called):
    assert send(write(tmp_path, object_of()), port.settings.port, title or "PYNETDICOM", called) == []
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


def file_of(one: Dataset) -> bytes:
    stream = io.BytesIO()
    one.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_what_is_no_ct_is_taken_and_not_kept(spool):
    assert Receiver(spool, KEY).take(file_of(object_of(SOPClassUID=SegmentationStorage)), b"x") == 0
    assert spool.arriving() == []


@pytest.mark.parametrize(
    "data", [b"", b"x" * 300, file_of(object_of())[:150], file_of(object_of(StudyInstanceUID=None))]
)
def test_what_cannot_be_read_is_not_acknowledged(spool, data):
    assert Receiver(spool, KEY).take(data, data) == CANNOT_UNDERSTAND
    assert spool.arriving() == []


def test_on_a_full_disk_nothing_is_acknowledged_and_it_is_said_once(spool, caplog):
    spool.least_free_gb = 1e9
    receiver = Receiver(spool, KEY)
    data = file_of(object_of())
    assert [receiver.take(data, data) for _ in range(3)] == [OUT_OF_RESOURCES] * 3
    assert caplog.messages == ["Nothing is taken: No space left on device"] and spool.arriving() == []
    spool.least_free_gb = 0.0
    assert receiver.take(data, data) == 0 and len(spool.arriving()) == 1


def test_a_study_is_its_patient_too_and_needs_the_key():
    one, other, named = object_of(), object_of("P2"), object_of(PatientName="A^B")
    digests = {study_of(one, KEY), study_of(other, KEY), study_of(named, KEY), study_of(one, "other")}
    assert len(digests) == 4 and all(len(digest) == 32 for digest in digests)
    implicit = object_of(uid=one.SOPInstanceUID)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert study_of(implicit, KEY) == study_of(one, KEY)


def test_storage_commitment_answers_whoever_waits(port):
    waiting = port.commitments.expect("1.2.3.4")
    entity = AE("SENDER")
    entity.add_requested_context(StorageCommitmentPushModel)
    from pynetdicom import build_role

    role = build_role(StorageCommitmentPushModel, scp_role=True)
    association = entity.associate("127.0.0.1", port.settings.port, ae_title="LNQ", ext_neg=[role])
    told, failed = Dataset(), Dataset()
    told.TransactionUID = "1.2.3.4"
    failed.ReferencedSOPInstanceUID, failed.ReferencedSOPClassUID, failed.FailureReason = "1.9", "1.8", 0x0112
    told.FailedSOPSequence = [failed]
    status, _ = association.send_n_event_report(told, 2, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
    association.release()
    assert status.Status == 0 and waiting.answered.wait(5) and waiting.failed == {"1.9"}
