"""Results on their way: to a DICOM node with and without storage commitment and TLS, to STOW-RS, into a folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pynetdicom")

from helpers.certificates import Certificates, make_certificates
from helpers.dicom_slices import slice_dataset
from helpers.pacs import free_port
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from lnq.pacs.deliver import Away, Folder, Refused, Store, Stow, destinations
from lnq.pacs.receive import Commitments
from lnq.pacs.settings import Caller, NodeSettings, Tls, To, server_context

STUDY = "0123456789abcdef" * 2


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "segmentation.dcm", tmp_path / "nodes.dcm"]
    for path in paths:
        one = slice_dataset(
            np.zeros((4, 4), np.uint16), (0, 0, 0), SOPClassUID=SegmentationStorage, SOPInstanceUID=generate_uid()
        )
        one.save_as(path, enforce_file_format=True)
    return paths


class Pacs:
    """A PACS that stores, and answers storage commitment, as it is told to."""

    def __init__(self, tls: Tls | None = None) -> None:
        self.port, self.stored, self.status = free_port(), dict[str, Dataset](), 0
        self.commitments: Commitments | None = None
        self.lost: tuple[str, ...] = ()
        entity = AE("PACS")
        entity.add_supported_context(SegmentationStorage)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action)]
        context = None if tls is None else server_context(tls)
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=context
        )

    def _store(self, event: evt.Event) -> int:
        self.stored[event.dataset.SOPInstanceUID] = event.dataset
        return self.status

    def _action(self, event: evt.Event) -> tuple[int, None]:
        asked = event.action_information
        told = Dataset()
        told.TransactionUID = asked.TransactionUID
        told.ReferencedSOPSequence = [
            one for one in asked.ReferencedSOPSequence if one.ReferencedSOPInstanceUID not in self.lost
        ]
        if self.commitments is not None:
            self.commitments.handle(SimpleNamespace(event_information=told))  # as the report brings it
        return 0, None

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    made = Pacs()
    yield made
    made.close()


def store_to(port: int, tmp_path: Path, certificates: Tls | None = None, commitment: bool = False) -> Store:
    to = To(store=f"PACS@127.0.0.1:{port}", commitment=commitment, tls=certificates is not None)
    settings = NodeSettings(tmp_path, (to,), (Caller("PACS"),), network_timeout=2.0, tls=certificates)
    return Store(to, settings, Commitments())


def test_objects_are_stored_with_their_uids_also_twice(pacs, tmp_path, files):
    store = store_to(pacs.port, tmp_path)
    store.send(STUDY, files)
    store.send(STUDY, files)
    assert set(pacs.stored) == {dcmread(path).SOPInstanceUID for path in files}


@pytest.mark.parametrize(
    ("status", "problem", "words"),
    [
        (0xA700, Away, r"it has no room or no time \(status 0xA700\)"),
        (0x0110, Away, r"it has no room or no time \(status 0x0110\)"),
        (0xC001, Refused, "it answered status 0xC001"),
        (0xA900, Refused, "it answered status 0xA900"),
    ],
)
def test_a_status_that_is_no_success_is_told(pacs, tmp_path, files, status, problem, words):
    pacs.status = status
    with pytest.raises(problem, match=f"^{words}$"):
        store_to(pacs.port, tmp_path).send(STUDY, files)


def test_a_warning_is_a_success(pacs, tmp_path, files):
    pacs.status = 0xB000
    store_to(pacs.port, tmp_path).send(STUDY, files)


def test_nobody_there_is_away(tmp_path, files):
    with pytest.raises(Away, match="^no connection$"):
        store_to(free_port(), tmp_path).send(STUDY, files)


def test_objects_of_a_class_that_is_not_taken_are_refused(pacs, tmp_path, files):
    one = dcmread(files[0])
    one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    one.save_as(files[0])
    with pytest.raises(Refused, match="^it does not take such objects: "):
        store_to(pacs.port, tmp_path).send(STUDY, files)


def test_storage_commitment_is_waited_for(pacs, tmp_path, files):
    store = store_to(pacs.port, tmp_path, commitment=True)
    with pytest.raises(Refused, match="^it has not committed 2 of 2 objects$"):
        store.send(STUDY, files)
    pacs.commitments, pacs.lost = store.commitments, (dcmread(files[1]).SOPInstanceUID,)
    with pytest.raises(Refused, match="^it has not committed 1 of 2 objects$"):
        store.send(STUDY, files)
    pacs.lost = ()
    store.send(STUDY, files)
    pacs.stored.clear()
    store.send(STUDY, files)
    assert not pacs.stored  # all was committed before


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def test_tls_needs_a_certificate_that_both_trust(certificates, tmp_path, files):
    pacs = Pacs(certificates.own)
    try:
        store_to(pacs.port, tmp_path, certificates.own).send(STUDY, files)
        assert len(pacs.stored) == 2
        pacs.stored.clear()
        for wrong in (certificates.strangers, None):
            with pytest.raises(Away, match="^no connection$"):
                store_to(pacs.port, tmp_path, wrong).send(STUDY, files)
        assert not pacs.stored
    finally:
        pacs.close()


def test_a_pacs_with_a_wrong_certificate_gets_nothing(certificates, tmp_path, files):
    pacs = Pacs(certificates.strangers)
    try:
        with pytest.raises(Away, match="^no connection$"):
            store_to(pacs.port, tmp_path, certificates.own).send(STUDY, files)
        assert not pacs.stored
    finally:
        pacs.close()


class Web(BaseHTTPRequestHandler):
    status, answer, bodies = 200, b"[]", list[tuple[str, str, bytes]]()
    kind = "application/dicom+json; charset=utf-8"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.bodies.append((self.path, self.headers.get("Authorization", ""), body))
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        if self.status == 302:
            self.send_header("Location", "/login")
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Web.status, Web.answer, Web.bodies = 200, b"", []
    yield f"http://127.0.0.1:{server.server_port}/web"
    server.shutdown()
    server.server_close()


def stow_to(address: str, tmp_path: Path, token: str = "") -> Stow:
    to = To(stow=address, token=token)
    return Stow(to, NodeSettings(tmp_path, (to,), (Caller("A"),)))


def stored(files: list[Path], failed: int = 0) -> bytes:
    """The answer to STOW-RS that names the files, the last ones as failed."""
    items = []
    for path in files:
        items.append(Dataset())
        items[-1].ReferencedSOPInstanceUID = dcmread(path).SOPInstanceUID
    told = Dataset()
    told.ReferencedSOPSequence, told.FailedSOPSequence = items[: len(items) - failed], items[len(items) - failed :]
    return told.to_json().encode()


def test_stow_sends_all_objects_in_one_request(web, tmp_path, files, monkeypatch):
    monkeypatch.setenv("LNQ_TEST_TOKEN", "abc")
    Web.answer = stored(files)
    stow_to(web, tmp_path, "LNQ_TEST_TOKEN").send(STUDY, files)
    (path, authorization, body), *more = Web.bodies
    assert not more and path == "/web/studies" and authorization == "Bearer abc"
    assert all(file.read_bytes() in body for file in files)


@pytest.mark.parametrize(
    ("status", "problem"),
    [(400, Refused), (409, Refused), (401, Away), (404, Away), (429, Away), (500, Away), (503, Away), (302, Away)],
)
def test_stow_tells_what_was_answered(web, tmp_path, files, status, problem):
    Web.status = status
    with pytest.raises(problem, match=f"^it answered HTTP status {status}$"):
        stow_to(web, tmp_path).send(STUDY, files)


def test_stow_believes_only_what_names_the_objects(web, tmp_path, files):
    sentence = "^it did not say that it stored {} of 2 objects$"
    for status, answer, missing in (
        (200, b"", 2), (200, b"<html>log in</html>", 2), (200, b"[1]", 2), (200, b"{}", 2),
        (202, stored(files, failed=1), 1), (200, stored(files[:1]), 1),
    ):  # fmt: skip
        Web.status, Web.answer = status, answer
        with pytest.raises(Refused, match=sentence.format(missing)):
            stow_to(web, tmp_path).send(STUDY, files)
    Web.status, Web.answer = 200, b"[" + stored(files) + b"]"
    stow_to(web, tmp_path).send(STUDY, files)


def test_stow_to_nobody_is_away(tmp_path, files):
    with pytest.raises(Away, match=r"^no connection \(ConnectionError\)$"):
        stow_to(f"http://127.0.0.1:{free_port()}", tmp_path).send(STUDY, files)


def test_a_folder_gets_each_result_whole_and_keeps_earlier_ones(tmp_path, files):
    out = tmp_path / "out"
    folder = Folder(To(folder=out))
    with pytest.raises(Away, match="^it is not there$"):  # a share that is not mounted
        folder.send(STUDY, files)
    assert not out.exists()
    out.mkdir()
    for sent in (files, files, files[:1]):
        folder.send(STUDY, sent)
    found = sorted(sorted(path.name for path in one.iterdir()) for one in out.iterdir())
    assert found == [["001-segmentation.dcm"], ["001-segmentation.dcm", "002-nodes.dcm"]]
    assert all(one.name.startswith(f"{STUDY[:16]}-") for one in out.iterdir())


def test_a_peer_that_reads_no_longer_is_away(tmp_path, files):
    """It accepts the association, and takes no byte of the object."""
    entity, port = AE("PACS"), free_port()
    entity.add_supported_context(SegmentationStorage)
    paused = threading.Event()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_ACCEPTED, lambda _: paused.wait(20))]
    )
    big = dcmread(files[0])
    big.PixelData = bytes(60_000_000)
    big.save_as(files[0])
    begun = time.monotonic()
    try:
        with pytest.raises(Away, match="^the connection broke off$"):
            store_to(port, tmp_path).send(STUDY, files)
        assert time.monotonic() - begun < 18
    finally:
        paused.set()
        server.shutdown()


def test_each_way_of_the_settings_has_its_destination(tmp_path):
    to = (To(store="A@b:1"), To(stow="http://b"), To(folder=tmp_path))
    made = destinations(NodeSettings(tmp_path, to, (Caller("A"),)), Commitments())
    assert [type(one) for one in made] == [Store, Stow, Folder] and [one.name for one in made] == [t.name for t in to]
