"""The node's port: who is let in, C-ECHO, C-STORE, and the answers of storage commitment."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from lnq.errors import StartError
from lnq.pacs.receive import CANNOT_UNDERSTAND, SUCCESS, Commitments, Receiver
from lnq.pacs.settings import Caller, NodeSettings, server_context, store_address
from lnq.text import on_one_line

_REJECTED, _BY_USER = 0x01, 0x01  # permanently, by the service user
_CALLING_TITLE_UNKNOWN = 0x03
_NOT_AUTHORISED = 0x0124
_HANDSHAKE_SECONDS = 10.0
_GREETING_SECONDS = 10.0  # until a connection asks for an association
_SYNTAXES = [syntax for syntax in ALL_TRANSFER_SYNTAXES if syntax != DeflatedExplicitVRLittleEndian]

logger = logging.getLogger(__name__)
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # it may quote what it receives


class _Server(ThreadedAssociationServer):
    """Asks each connection for its certificate in a thread of its own: one that says nothing holds up no other."""

    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        listening: Any = self.socket
        accepted: tuple[socket.socket, Any] = listening.accept()
        return accepted

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        context: ssl.SSLContext | None = self.ssl_context
        if context is not None:
            try:
                request.settimeout(_HANDSHAKE_SECONDS)
                request = context.wrap_socket(request, server_side=True)
                request.settimeout(None)
            except OSError:  # ssl.SSLError is one
                logger.warning("Refused: %s, whose certificate is not trusted", client_address[0])
                request.close()
                return
        super().process_request_thread(request, client_address)


@dataclass
class Port:
    """The open port of a node."""

    settings: NodeSettings
    receiver: Receiver
    commitments: Commitments
    _server: Any = None
    _senders: dict[Any, set[str]] = field(default_factory=dict)  # by association: the studies that it brings
    _admitted: dict[Any, bool] = field(default_factory=dict)  # by association: whether it may store
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self) -> None:
        """Listen. Raises StartError where the address cannot be listened on."""
        settings = self.settings
        entity = AE(settings.ae_title)
        entity.require_called_aet = True
        entity.maximum_associations = settings.associations
        entity.acse_timeout = min(_GREETING_SECONDS, settings.network_timeout)
        entity.dimse_timeout = entity.network_timeout = settings.network_timeout
        entity.add_supported_context(Verification)
        for storage in AllStoragePresentationContexts:
            entity.add_supported_context(str(storage.abstract_syntax), _SYNTAXES)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers = [
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_N_EVENT_REPORT, self.commitments.handle),
            (evt.EVT_CONN_CLOSE, self._forget),
        ]
        context = server_context(settings.tls) if settings.tls else None
        try:
            self._server = entity.make_server(
                (settings.host, settings.port),
                evt_handlers=handlers,  # type: ignore[arg-type]
                ssl_context=context,
                server_class=_Server,
            )
        except OSError as error:
            reason = error.strerror or error
            raise StartError(f"Cannot listen on {settings.host}, port {settings.port}: {reason}") from None
        entity._servers.append(self._server)
        threading.Thread(target=self._server.serve_forever, name="port", daemon=True).start()
        secured = ", TLS" if context else ""
        logger.info("Listens on %s, port %d, as %s%s", settings.host, settings.port, settings.ae_title, secured)

    def close(self) -> None:
        """Take no more associations, and abort those that are there."""
        if self._server is not None:
            server, self._server = self._server, None
            associations = list(server.active_associations)
            server.shutdown()
            for association in associations:
                association.abort()

    def brings(self, study: str) -> bool:
        """Whether an association that has brought objects of a study is still open."""
        with self._lock:
            return any(study in studies for studies in self._senders.values())

    def _admit(self, event: evt.Event) -> None:
        """Reject an association whose caller is not known. An error rejects it too."""
        title = address = "?"
        try:
            requestor: Any = event.assoc.requestor  # its title is not set yet
            title, address = str(requestor.primitive.calling_ae_title).strip(), str(requestor.address)
            may_store = is_known(title, address, self.settings.callers)
            if may_store or is_known(title, address, self._committers()):
                self._admitted[event.assoc] = may_store
                return
        except Exception:
            logger.warning("An association could not be judged")
        logger.warning("Refused: %s at %s, who is not in [[from]]", on_one_line(title), address)
        event.assoc.acse.send_reject(_REJECTED, _BY_USER, _CALLING_TITLE_UNKNOWN)

    def _committers(self) -> Sequence[Caller]:
        """Those who answer with storage commitment, at each of their addresses."""
        found = [store_address(to) for to in self.settings.to if to.commitment]
        return [Caller(one.ae_title, address) for one in found for address in addresses_of(one.host)]

    def _store(self, event: evt.Event) -> int:
        if not self._admitted.get(event.assoc):
            return _NOT_AUTHORISED
        try:
            body: bytes = event.request.DataSet.getvalue()  # type: ignore[union-attr]  # of a C-STORE request
            status, study = self.receiver.take(event.encoded_dataset(), body)
        except Exception as error:
            logger.error("Unforeseen %s with an object", type(error).__name__)
            return CANNOT_UNDERSTAND
        if study:
            with self._lock:
                self._senders.setdefault(event.assoc, set()).add(study)
        if status == CANNOT_UNDERSTAND:
            logger.warning("An object cannot be read, and was not taken")
        return status

    def _forget(self, event: evt.Event) -> None:
        """An association has ended."""
        with self._lock:
            self._senders.pop(event.assoc, None)
            self._admitted.pop(event.assoc, None)


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


def addresses_of(host: str) -> list[str]:
    """The IP addresses of a host; none where it cannot be found."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return []
