"""Studies, a node in a process of its own, and peers for tests of `lnq node`. Needs pynetdicom."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from helpers.chests import SPACING_MM, draw_chest, grid
from helpers.dicom_slices import slice_dataset, write_slices
from helpers.paths import ROOT
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from lnq.pacs.settings import Tls, client_context

MODEL = ROOT / "model"


def write_study(folder: Path, number: int, leave_out: Sequence[int] = ()) -> list[Path]:
    """A chest CT of patient `number` as a DICOM series, without the slices of the numbers in `leave_out`."""
    ct, _ = draw_chest(grid(), number)
    study, series, frame = (generate_uid(entropy_srcs=[f"{number} {what}"]) for what in ("study", "series", "frame"))

    def edit(slice_: Dataset, index: int) -> None:
        slice_.PatientID, slice_.PatientName = f"SECRET{number}", f"Secret^Name{number}"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.SOPInstanceUID = generate_uid(entropy_srcs=[f"{number} {index}"])
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.PixelSpacing, slice_.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]

    positions = [ct.affine[:3, :3] @ (z, 0, 0) + ct.affine[:3, 3] for z in range(ct.shape[0])]
    paths = write_slices(folder, ct.array + 1024, positions, edit)
    for index in leave_out:
        paths[index].unlink()
    return [path for index, path in enumerate(paths) if index not in set(leave_out)]


def ct_object(patient: str = "P1", uid: str | None = None, **tags: object) -> Dataset:
    """A small CT object of a patient, of study 1.2.3."""
    given = {"PatientID": patient, "StudyInstanceUID": "1.2.3", "SOPInstanceUID": uid or generate_uid()}
    return slice_dataset(np.zeros((4, 4), np.uint16), (0, 0, 0), **(given | tags))


def write_objects(folder: Path, *objects: Dataset) -> list[Path]:
    """Write objects as files 0.dcm and so on."""
    paths = []
    for number, one in enumerate(objects):
        paths.append(folder / f"{number}.dcm")
        one.save_as(paths[-1], enforce_file_format=True)
    return paths


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds. Fails where it never does."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "It did not come"
        time.sleep(0.05)


@dataclass
class RunningNode:
    """`lnq node` in a process of its own."""

    settings: Path
    arguments: Sequence[str] = ()
    lines: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        command = [sys.executable, "process.py", "--model", str(MODEL), "node", str(self.settings), *self.arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._collect, args=(self._process,), daemon=True).start()
        before = len(self.lines)
        wait_for(lambda: any("Ready:" in line for line in self.lines[before:]) or self._ended())
        assert not self._ended(), self.lines

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _collect(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.lines.extend(line.rstrip("\n") for line in process.stderr)

    def kill(self) -> None:
        """Kill it, as kill -9 does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End it as an administrator does; returns its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def said(self, text: str) -> bool:
        """Whether it has said a text."""
        return any(text in line for line in self.lines)


def send(
    paths: Sequence[Path], port: int, title: str = "SENDER", called: str = "LNQ", tls: Tls | None = None
) -> list[int]:
    """C-STORE files to a node; returns the statuses. None where the association is refused."""
    entity = AE(title)
    for syntax in {dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID for path in paths}:
        entity.add_requested_context(CTImageStorage, syntax)
    context = None
    if tls is not None:
        context = client_context(tls)
        context.check_hostname = False
    tls_args = (context, "127.0.0.1") if context else None
    association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls_args)
    if not association.is_established:
        return []
    statuses = [int(association.send_c_store(path).Status) for path in paths]
    association.release()
    return statuses
