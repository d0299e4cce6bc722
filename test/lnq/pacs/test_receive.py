"""What is kept of what comes in, and what storage commitment has told."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("pynetdicom")

from helpers.pacs import ct_object
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, SegmentationStorage

from lnq.pacs.receive import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Commitments, Receiver, study_of

KEY = "k"


def file_of(one: Dataset) -> bytes:
    stream = io.BytesIO()
    one.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_what_is_no_ct_is_taken_and_not_kept(spool):
    assert Receiver(spool, KEY).take(file_of(ct_object(SOPClassUID=SegmentationStorage)), b"x") == (0, "")
    assert spool.arriving() == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 300,
        file_of(ct_object())[:150],
        file_of(ct_object())[:600],
        file_of(ct_object(StudyInstanceUID=None)),
    ],
)
def test_what_cannot_be_read_is_not_acknowledged(spool, data):
    assert Receiver(spool, KEY).take(data, data) == (CANNOT_UNDERSTAND, "")
    assert spool.arriving() == []


def test_on_a_full_disk_nothing_is_acknowledged_and_it_is_said_once(spool, caplog):
    spool.least_free_gb = 1e9
    receiver = Receiver(spool, KEY)
    data = file_of(ct_object())
    assert [receiver.take(data, data)[0] for _ in range(3)] == [OUT_OF_RESOURCES] * 3
    assert caplog.messages == ["Nothing is taken: No space left on device"]
    [study] = spool.arriving()
    assert spool.complete(study) is None  # it is owed an object
    spool.least_free_gb = 0.0
    assert receiver.take(data, data) == (0, study) and spool.complete(study) is not None


def test_what_is_deflated_is_not_unpacked(spool):
    one = ct_object()
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = file_of(one)
    assert Receiver(spool, KEY).take(data, data) == (CANNOT_UNDERSTAND, "")


def test_an_odd_identity_is_refused_and_quoted_nowhere(spool, caplog):
    data = file_of(ct_object("MUELLER^HEINZ1")).replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00UL")
    assert Receiver(spool, KEY).take(data, data) == (CANNOT_UNDERSTAND, "") and caplog.text == ""


def test_names_that_differ_in_form_alone_are_one_patient():
    names = ["DOE^JOHN", "Doe^John", "DOE^JOHN^", "DOE^JOHN="]
    assert len({study_of(ct_object(PatientName=name), KEY) for name in names}) == 1
    assert study_of(ct_object(PatientName="DOE^JANE"), KEY) != study_of(ct_object(PatientName="DOE^JOHN"), KEY)


def report(done=(), failed=()) -> SimpleNamespace:
    told = Dataset()
    for name, uids in (("ReferencedSOPSequence", done), ("FailedSOPSequence", failed)):
        items = [Dataset() for _ in uids]
        for item, uid in zip(items, uids, strict=True):
            item.ReferencedSOPInstanceUID = uid
        setattr(told, name, items)
    return SimpleNamespace(event_information=told)


def test_only_what_commitment_names_is_committed():
    told = Commitments()
    assert told.handle(report(done=["1.1"])) == (0, None)
    assert told.wait(["1.1", "1.2"], 0.05) == {"1.2"} and told.missing(["1.1"]) == set()
    told.handle(report(failed=["1.2"]))
    begun = time.monotonic()
    assert told.wait(["1.1"], 10) == set() and time.monotonic() - begun < 5
    told.handle(report(done=["1.2"], failed=["1.2"]))
    assert told.missing(["1.2"]) == {"1.2"}
    told.handle(report(done=["1.2"]))  # late, and yet
    assert told.wait(["1.1", "1.2"], 0.0) == set()
    assert told.handle(SimpleNamespace(event_information=None)) == (0x0110, None)


def test_a_study_is_its_patient_too_and_needs_the_key():
    one, other, named = ct_object(), ct_object("P2"), ct_object(PatientName="A^B")
    digests = {study_of(one, KEY), study_of(other, KEY), study_of(named, KEY), study_of(one, "other")}
    assert len(digests) == 4 and all(len(digest) == 32 for digest in digests)
    implicit = ct_object(uid=one.SOPInstanceUID)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert study_of(implicit, KEY) == study_of(one, KEY)
