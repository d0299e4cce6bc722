"""The node's port: C-ECHO, C-STORE into the spool, and the answers of storage commitment."""

from __future__ import annotations

import errno
import hmac
import io
import ipaddress
import logging
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from lnq.errors import StartError
from lnq.pacs.settings import Caller, NodeSettings, server_context, store_address
from lnq.pacs.spool import Spool, digest_of
from lnq.text import on_one_line

CT_CLASSES = frozenset({
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
})  # fmt: skip
"""What is kept. Other objects are taken and thrown away: a PACS sends whole studies."""

_IDENTITY = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID")
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_REJECTED, _BY_USER = 0x01, 0x01  # permanently, by the service user
_CALLING_TITLE_UNKNOWN = 0x03

logger = logging.getLogger(__name__)
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # it may quote what it receives


@dataclass
class Commitment:
    """A transaction of storage commitment that waits for its answer."""

    answered: threading.Event = field(default_factory=threading.Event)
    failed: frozenset[str] = frozenset()  # SOPInstanceUIDs that are not committed


@dataclass
class Commitments:
    """The transactions that wait, by their UIDs."""

    _waiting: dict[str, Commitment] = field(default_factory=dict)

    def expect(self, transaction: str) -> Commitment:
        """Wait for a transaction from now on."""
        return self._waiting.setdefault(transaction, Commitment())

    def forget(self, transaction: str) -> None:
        """Wait for it no longer."""
        self._waiting.pop(transaction, None)

    def handle(self, event: evt.Event) -> tuple[int, None]:
        """Take an N-EVENT-REPORT. One that nobody waits for is acknowledged and forgotten."""
        try:
            told: Dataset = event.event_information
            waiting = self._waiting.get(str(told.TransactionUID))
            if waiting is not None:
                failed = told.get("FailedSOPSequence", [])
                waiting.failed = frozenset(str(item.ReferencedSOPInstanceUID) for item in failed)
                waiting.answered.set()
        except Exception:
            logger.warning("An answer of storage commitment cannot be read")
            return 0x0110, None
        return SUCCESS, None


def study_of(dataset: Dataset, key: str) -> str:
    """The keyed digest of a study's identity, 32 hex digits: a UID alone is none, as anonymisers reuse them."""
    identity = "\0".join(str(dataset.get(name, "")) for name in _IDENTITY)
    return hmac.digest(key.encode(), identity.encode(errors="surrogatepass"), "sha256").hex()[:32]


@dataclass
class Receiver:
    """Takes objects into the spool, from whichever way they come."""

    spool: Spool
    key: str  # of the digests that studies are called by
    _told: dict[str, bool] = field(default_factory=dict)

    def take(self, part10: bytes, body: bytes) -> int:
        """Keep an object, given as a file's bytes and as those of its data set alone. Returns a C-STORE status."""
        try:
            if not self.spool.has_room(len(part10)):
                raise OSError(errno.ENOSPC, "No space left on device")
            head = dcmread(io.BytesIO(part10), stop_before_pixels=True, specific_tags=["SOPClassUID", *_IDENTITY])
            if str(head.file_meta.MediaStorageSOPClassUID) not in CT_CLASSES:
                return SUCCESS
            if not head.get("StudyInstanceUID"):
                return CANNOT_UNDERSTAND
            self.spool.add(study_of(head, self.key), digest_of(body), part10)
        except OSError as error:
            self._tell(f"Nothing is taken: {error.strerror or error}")
            return OUT_OF_RESOURCES
        except (InvalidDicomError, AttributeError, ValueError, KeyError, TypeError, NotImplementedError):
            return CANNOT_UNDERSTAND
        self._told.clear()
        return SUCCESS

    def _tell(self, sentence: str) -> None:
        """Say a sentence once, until things go well again."""
        if not self._told.get(sentence):
            logger.error("%s", sentence)
            self._told[sentence] = True


@dataclass
class Port:
    """The open port of a node."""

    settings: NodeSettings
    receiver: Receiver
    commitments: Commitments
    _server: Any = None
    _busy: dict[Any, set[str]] = field(default_factory=dict)

    def open(self) -> None:
        """Listen. Raises StartError where the address cannot be listened on."""
        settings = self.settings
        entity = AE(settings.ae_title)
        entity.require_called_aet = True
        entity.maximum_associations = settings.associations
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = settings.network_timeout
        entity.add_supported_context(Verification)
        for storage in AllStoragePresentationContexts:
            entity.add_supported_context(str(storage.abstract_syntax), list(ALL_TRANSFER_SYNTAXES))
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers = [
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_N_EVENT_REPORT, self.commitments.handle),
        ]
        context = server_context(settings.tls) if settings.tls else None
        try:
            self._server = entity.start_server(
                (settings.host, settings.port),
                block=False,
                evt_handlers=handlers,  # type: ignore[arg-type]
                ssl_context=context,
            )
        except OSError as error:
            reason = error.strerror or error
            raise StartError(f"Cannot listen on {settings.host}, port {settings.port}: {reason}") from None
        logger.info(
            "Listens on %s, port %d, as %s%s", settings.host, settings.port, settings.ae_title, ", TLS" * bool(context)
        )

    def close(self) -> None:
        """Take no more associations, and end those that are there."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _admit(self, event: evt.Event) -> None:
        """Reject an association whose caller is not known."""
        requestor: Any = event.assoc.requestor  # its title is not set yet
        title, address = str(requestor.primitive.calling_ae_title).strip(), str(requestor.address)
        if not is_known(title, address, self._known()):
            logger.warning("Refused: %s at %s, who is not in [[from]]", on_one_line(title), address)
            event.assoc.acse.send_reject(_REJECTED, _BY_USER, _CALLING_TITLE_UNKNOWN)

    def _known(self) -> Sequence[Caller]:
        """The callers, and those who answer with storage commitment."""
        addresses = [store_address(to) for to in self.settings.to if to.commitment]
        return (*self.settings.callers, *(Caller(one.ae_title, _resolved(one.host)) for one in addresses))

    def _store(self, event: evt.Event) -> int:
        try:
            body: bytes = event.request.DataSet.getvalue()  # type: ignore[union-attr]  # of a C-STORE request
            return self.receiver.take(event.encoded_dataset(), body)
        except Exception:
            logger.exception("Unforeseen error with an object")
            return CANNOT_UNDERSTAND


def is_known(title: str, address: str, callers: Sequence[Caller]) -> bool:
    """Whether somebody of this AE title and IP address may call."""
    return any(
        caller.ae_title.strip() == title and (not caller.address or _same(caller.address, address))
        for caller in callers
    )


def _same(one: str, other: str) -> bool:
    try:
        a, b = (ipaddress.ip_address(text.removeprefix("::ffff:")) for text in (one, other))
    except ValueError:
        return False
    return a == b


def _resolved(host: str) -> str:
    """The IP address of a host; one that no caller has where it cannot be found."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return "0.0.0.0"
