"""Send results on: C-STORE with storage commitment, STOW-RS, or into a folder."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from lnq.files import replace_folder
from lnq.pacs.receive import Commitments
from lnq.pacs.settings import NodeSettings, Tls, To, client_context, store_address

_WARNINGS = frozenset({0x0000, 0xB000, 0xB006, 0xB007, 0x0111})  # stored; 0x0111: it was there already
_STORED = (200, 202)  # all, or a part: the answer tells which
_REFUSES = (400, 409, 415, 422)
_PROCESSING_FAILURE = 0x0110
_REQUEST_COMMITMENT = 1  # the action's type


class Away(Exception):
    """The destination cannot be reached, or has no time. The message is the end of a sentence."""


class Refused(Exception):
    """The destination refuses these results. The message is the end of a sentence."""


class Destination(Protocol):
    """Where results go."""

    @property
    def name(self) -> str:
        """What it is called in messages and on disk."""

    def send(self, study: str, files: Sequence[Path]) -> None:
        """Send the results of a study; returns once they have arrived. Raises Away or Refused.

        Sent again they change nothing there: the objects keep their UIDs.
        """


@dataclass(frozen=True)
class Store:
    """A DICOM node that takes C-STORE."""

    to: To
    settings: NodeSettings
    commitments: Commitments

    @property
    def name(self) -> str:
        return self.to.name

    def send(self, study: str, files: Sequence[Path]) -> None:
        """See `Destination`. With storage commitment they have arrived once the destination says so."""
        objects = [dcmread(path) for path in files]
        uids = [str(one.SOPInstanceUID) for one in objects]
        if self.to.commitment and not self.commitments.missing(uids):
            return  # the answer came late
        association = self._associate(objects)
        try:
            for one in objects:
                status = association.send_c_store(one)
                if "Status" not in status:
                    raise Away("the connection broke off")
                code = int(status.Status)
                if 0xA700 <= code <= 0xA7FF or code == _PROCESSING_FAILURE:
                    raise Away(f"it has no room or no time (status 0x{code:04X})")
                if code not in _WARNINGS:
                    raise Refused(f"it answered status 0x{code:04X}")
            if self.to.commitment:
                self._commit(association, objects)
        except ValueError as error:  # no context was accepted for the object's class
            raise Refused(f"it does not take such objects: {error}") from None
        except RuntimeError:
            raise Away("the connection broke off") from None
        finally:
            if association.is_established:
                association.release()

    def _associate(self, objects: Sequence[Dataset]) -> Association:
        settings, address = self.settings, store_address(self.to)
        entity = AE(settings.ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = settings.network_timeout
        entity.network_timeout = 2 * settings.network_timeout  # open while the answer to commitment is waited for
        for sop_class, syntax in Counter((o.SOPClassUID, o.file_meta.TransferSyntaxUID) for o in objects):
            entity.add_requested_context(sop_class, syntax)
        roles = []
        if self.to.commitment:
            entity.add_requested_context(StorageCommitmentPushModel)
            roles.append(build_role(StorageCommitmentPushModel, scu_role=True, scp_role=False))
        tls = (_client(settings.tls), address.host) if self.to.tls and settings.tls else None
        association = entity.associate(
            address.host,
            address.port,
            ae_title=address.ae_title,
            ext_neg=roles,  # type: ignore[arg-type]
            tls_args=tls,  # type: ignore[arg-type]
            evt_handlers=[
                (evt.EVT_N_EVENT_REPORT, self.commitments.handle),  # it may answer on this association
                (evt.EVT_CONN_OPEN, self._limit_sending),
            ],
        )
        if association.is_rejected:
            raise Away("it rejects the association")
        if not association.is_established:
            raise Away("no connection")
        return association

    def _limit_sending(self, event: evt.Event) -> None:
        """Have a peer that reads no longer end the connection: pynetdicom itself would wait for ever."""
        connection = event.assoc.dul.socket
        if connection is not None and connection.socket is not None:
            limit = struct.pack("ll", int(self.settings.network_timeout) + 1, 0)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _commit(self, association: Association, objects: Sequence[Dataset]) -> None:
        """Ask for storage commitment, and wait for the answer, which comes to the node's port, or on this way."""
        request = Dataset()
        request.TransactionUID = generate_uid()
        request.ReferencedSOPSequence = [_reference(one) for one in objects]
        status, _ = association.send_n_action(
            request, _REQUEST_COMMITMENT, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        if "Status" not in status:
            raise Away("the connection broke off")
        if status.Status != 0x0000:
            raise Refused(f"it does not do storage commitment (status 0x{status.Status:04X})")
        uids = [str(one.SOPInstanceUID) for one in objects]
        missing = self.commitments.wait(uids, self.settings.network_timeout)
        if missing:
            raise Refused(f"it has not committed {len(missing)} of {len(uids)} objects")


@dataclass(frozen=True)
class Stow:
    """A DICOMweb service that takes STOW-RS."""

    to: To
    settings: NodeSettings

    @property
    def name(self) -> str:
        return self.to.name

    def send(self, study: str, files: Sequence[Path]) -> None:
        """See `Destination`."""
        import requests

        parts = [path.read_bytes() for path in files]
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        }
        if self.to.token:
            headers["Authorization"] = f"Bearer {os.environ[self.to.token]}"
        tls = self.settings.tls
        try:
            answer = requests.post(
                f"{self.to.stow.rstrip('/')}/studies",
                data=body,
                headers=headers,
                timeout=self.settings.network_timeout,
                allow_redirects=False,  # a page to log in at would look like success
                verify=str(tls.ca) if tls else True,
                cert=(str(tls.certificate), str(tls.key)) if tls else None,
            )
        except requests.RequestException as error:
            raise Away(f"no connection ({type(error).__name__})") from None
        code = answer.status_code
        if code not in _STORED:
            problem = Refused if code in _REFUSES else Away
            raise problem(f"it answered HTTP status {code}")
        missing = _uids(files) - _stored(answer.content)
        if missing:
            raise Refused(f"it did not say that it stored {len(missing)} of {len(files)} objects")


def _uids(files: Sequence[Path]) -> set[str]:
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files}


def _stored(answer: bytes) -> set[str]:
    """The SOPInstanceUIDs that an answer to STOW-RS says are stored; none where it cannot be read."""
    try:
        told = json.loads(answer)
        told = Dataset.from_json(told[0] if isinstance(told, list) else told)
        failed = {str(item.ReferencedSOPInstanceUID) for item in told.get("FailedSOPSequence") or []}
        return {str(item.ReferencedSOPInstanceUID) for item in told.get("ReferencedSOPSequence") or []} - failed
    except Exception:  # it may be anything
        return set()


@dataclass(frozen=True)
class Folder:
    """A folder, which gets one for each result of a study, whole or not at all."""

    to: To

    @property
    def name(self) -> str:
        return self.to.name

    def send(self, study: str, files: Sequence[Path]) -> None:
        """See `Destination`."""
        assert self.to.folder is not None
        if not self.to.folder.is_dir():
            raise Away("it is not there")  # a share that is not mounted
        uids = "".join(sorted(_uids(files)))
        name = f"{study[:16]}-{hashlib.sha256(uids.encode()).hexdigest()[:8]}"
        target, new, aside = (self.to.folder / part for part in (name, f".{name}.new", f".{name}.old"))
        try:
            for left in (new, aside):
                shutil.rmtree(left, ignore_errors=True)
            new.mkdir()
            for number, path in enumerate(files, start=1):
                shutil.copyfile(path, new / f"{number:03d}-{path.name}")
            replace_folder(new, target, aside)
        except OSError as error:
            raise Away(f"it cannot be written: {error.strerror or error}") from None


def _client(tls: Tls) -> ssl.SSLContext:
    context = client_context(tls)
    context.check_hostname = False  # hospitals' certificates name AE titles or nothing; the CA decides
    return context


def _reference(one: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    return item


def destinations(settings: NodeSettings, commitments: Commitments) -> list[Destination]:
    """The destinations of a node."""
    made: list[Destination] = []
    for to in settings.to:
        made.append(Store(to, settings, commitments) if to.store else Stow(to, settings) if to.stow else Folder(to))
    return made
