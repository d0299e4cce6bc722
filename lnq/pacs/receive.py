"""Objects that come in, from the port or from a folder, and the answers of storage commitment."""

from __future__ import annotations

import errno
import hashlib
import hmac
import io
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lnq.pacs.entry import ObjectName
from lnq.pacs.spool import Spool

CT_CLASSES = frozenset({
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
})  # fmt: skip
"""What is kept. Other objects are taken and thrown away: a PACS sends whole studies."""

_IDENTITY = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID")
_TO_THE_PIXELS = "Rows"  # stands after all of these: without it a file was cut off, and its identity may be another's
_OBJECT = ("SeriesInstanceUID", "SOPInstanceUID", "ImagePositionPatient", "InstanceNumber")
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_HEAD_BYTES = 2048  # hold the file's meta information, which names the transfer syntax
LARGEST_BYTES = 1 << 31  # of an object
_REMEMBERED = 100_000  # committed objects

logger = logging.getLogger(__name__)


@dataclass
class Commitments:
    """The objects that storage commitment has spoken of, whichever transaction told it, and however late."""

    _committed: dict[str, None] = field(default_factory=dict)  # SOPInstanceUIDs, the oldest first
    _failed: set[str] = field(default_factory=set)
    _told: threading.Condition = field(default_factory=threading.Condition)

    def handle(self, event: object) -> tuple[int, None]:
        """Take an N-EVENT-REPORT; returns its status."""
        try:
            told: Dataset = event.event_information  # type: ignore[attr-defined]
            done = [str(item.ReferencedSOPInstanceUID) for item in told.get("ReferencedSOPSequence") or []]
            failed = [str(item.ReferencedSOPInstanceUID) for item in told.get("FailedSOPSequence") or []]
        except Exception:
            logger.warning("An answer of storage commitment cannot be read")
            return 0x0110, None
        with self._told:
            self._committed.update(dict.fromkeys(uid for uid in done if uid not in set(failed)))
            self._failed = (self._failed | set(failed)) - set(done)
            for uid in list(self._committed)[: max(0, len(self._committed) - _REMEMBERED)]:
                del self._committed[uid]
            self._told.notify_all()
        return SUCCESS, None

    def missing(self, uids: Iterable[str]) -> set[str]:
        """Those of some objects that are not committed."""
        with self._told:
            return {uid for uid in uids if uid not in self._committed}

    def wait(self, uids: Iterable[str], seconds: float) -> set[str]:
        """Wait until all objects were spoken of, so long at most; returns those that are not committed."""
        wanted = set(uids)
        with self._told:
            self._failed -= wanted
            self._told.wait_for(lambda: not wanted - self._committed.keys() - self._failed, seconds)
            return wanted - self._committed.keys()


def study_of(dataset: Dataset, key: str) -> str:
    """The keyed digest of a study's identity, 32 hex digits: a UID alone is none, as anonymisers reuse them.

    Names that differ in capitals or empty parts are one.
    """
    identity = "\0".join(str(dataset.get(name, "")).casefold().strip("^= ") for name in _IDENTITY)
    return hmac.digest(key.encode(), identity.encode(errors="surrogatepass"), "sha256").hex()[:32]


def object_of(dataset: Dataset, body: bytes) -> ObjectName:
    """The name of an object: which one it is, and what it holds."""
    which = "\0".join(str(dataset.get(name, "")) for name in _OBJECT).encode(errors="surrogatepass")
    return ObjectName(hashlib.sha256(which).hexdigest()[:32], hashlib.sha256(body).hexdigest()[:32])


@dataclass
class Receiver:
    """Takes objects into the spool, from whichever way they come."""

    spool: Spool
    key: str  # of the digests that studies are called by
    _full: bool = False

    def take(self, part10: bytes, body: bytes) -> tuple[int, str]:
        """Keep an object, given as a file's bytes and as those of its data set alone.

        Returns a C-STORE status, and the study where it is known. What is not acknowledged is owed: its study is not
        complete until it has come.
        """
        if len(part10) > LARGEST_BYTES or DeflatedExplicitVRLittleEndian.encode() in part10[:_HEAD_BYTES]:
            return CANNOT_UNDERSTAND, ""  # what is deflated may be of any size
        try:
            tags = ["SOPClassUID", *_IDENTITY, *_OBJECT, _TO_THE_PIXELS]
            head = dcmread(io.BytesIO(part10), stop_before_pixels=True, specific_tags=tags)
            if str(head.file_meta.MediaStorageSOPClassUID) not in CT_CLASSES:
                return SUCCESS, ""
            if not head.get("StudyInstanceUID") or _TO_THE_PIXELS not in head:
                return CANNOT_UNDERSTAND, ""
            study, name = study_of(head, self.key), object_of(head, body)
        except Exception:  # pydicom raises many kinds, whose texts may quote the patient
            return CANNOT_UNDERSTAND, ""
        try:
            if not self.spool.has_room(len(part10)):
                raise OSError(errno.ENOSPC, "No space left on device")
            self.spool.add(study, name, part10)
        except OSError as error:
            self.spool.owe(study, name)
            if not self._full:
                logger.error("Nothing is taken: %s", error.strerror or error)
            self._full = True
            return OUT_OF_RESOURCES, study
        self._full = False
        return SUCCESS, study
