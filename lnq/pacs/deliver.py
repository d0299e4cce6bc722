"""Send results on: C-STORE with storage commitment, STOW-RS, or into a folder."""

from __future__ import annotations

import os
import shutil
import ssl
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
        association = self._associate(objects)
        try:
            for one in objects:
                status = association.send_c_store(one)
                if "Status" not in status:
                    raise Away("the connection broke off")
                code = int(status.Status)
                if 0xA700 <= code <= 0xA7FF:
                    raise Away(f"it has no room (status 0x{code:04X})")
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
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.commitments.handle)],  # it may answer on this association
        )
        if association.is_rejected:
            raise Away("it rejects the association")
        if not association.is_established:
            raise Away("no connection")
        return association

    def _commit(self, association: Association, objects: Sequence[Dataset]) -> None:
        """Ask for storage commitment, and wait for the answer, which comes to the node's port."""
        request = Dataset()
        request.TransactionUID = generate_uid()
        request.ReferencedSOPSequence = [_reference(one) for one in objects]
        transaction = str(request.TransactionUID)
        waiting = self.commitments.expect(transaction)
        try:
            status, _ = association.send_n_action(
                request, _REQUEST_COMMITMENT, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            if "Status" not in status:
                raise Away("the connection broke off")
            if status.Status != 0x0000:
                raise Refused(f"it does not do storage commitment (status 0x{status.Status:04X})")
            if not waiting.answered.wait(self.settings.network_timeout):
                raise Away("no answer to storage commitment came")
            if waiting.failed:
                raise Away(f"it has not committed {len(waiting.failed)} objects")
        finally:
            self.commitments.forget(transaction)


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
        from dicomweb_client.api import DICOMwebClient

        session = requests.Session()
        tls = self.settings.tls
        if tls is not None:
            session.verify, session.cert = str(tls.ca), (str(tls.certificate), str(tls.key))
        headers = {"Authorization": f"Bearer {os.environ[self.to.token]}"} if self.to.token else {}
        client = DICOMwebClient(self.to.stow, session=session, headers=headers)
        client.set_http_retry_params(retry=False)
        try:
            answer = client.store_instances([dcmread(path) for path in files])
        except requests.HTTPError as error:
            code = error.response.status_code if error.response is not None else 0
            problem = Refused if 400 <= code < 500 and code not in (401, 403, 408, 429) else Away
            raise problem(f"it answered HTTP status {code}") from None
        except requests.RequestException as error:
            raise Away(f"no connection ({type(error).__name__})") from None
        failed = answer.get("FailedSOPSequence") or []
        if failed:
            raise Refused(f"it did not store {len(failed)} of {len(files)} objects")


@dataclass(frozen=True)
class Folder:
    """A folder, which gets one for each study, whole or not at all."""

    to: To

    @property
    def name(self) -> str:
        return self.to.name

    def send(self, study: str, files: Sequence[Path]) -> None:
        """See `Destination`."""
        assert self.to.folder is not None
        target = self.to.folder / study[:16]
        new, aside = (self.to.folder / f".{study[:16]}.{end}" for end in ("new", "old"))
        try:
            for left in (new, aside):
                shutil.rmtree(left, ignore_errors=True)
            new.mkdir(parents=True)
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
