"""Spoiled inputs read as process.py reads them, in processes of their own: a crash or a hang is a finding too."""

from __future__ import annotations

import multiprocessing
import re
import resource
import signal
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk
from helpers.fuzzing import spoil_bytes, spoil_dicom, spoil_header, spoil_nifti
from helpers.fuzzing.inputs import FORMATS, OUTSIDE_HU, SERIES_SHAPE, SHAPE, Input, unspoiled

from lnq.archive.discovery import SetAside, discover
from lnq.archive.open import read_ct
from lnq.errors import ImageError, StartError
from lnq.image.volume import Volume

MEMORY_BYTES = 4 * 10**9  # that one process may have; asking for more is a finding
SECONDS = 30.0  # that one input may take
_START_SECONDS = 120.0
_PROCESSES = 2
_WAYS = {
    "mha": spoil_header.WAYS, "mhd": spoil_header.WAYS, "nrrd": spoil_header.WAYS, "nhdr": spoil_header.WAYS,
    "nii": spoil_nifti.WAYS, "nii.gz": spoil_nifti.WAYS, "nifti2": spoil_nifti.WAYS,
    "dicom": spoil_dicom.WAYS,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    seed: int
    format: str
    kind: str
    refused: bool = False
    fault: str | None = None  # what should not have happened
    seconds: float = 0.0
    peak_mb: float = 0.0  # of the process up to then

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.format}, {self.kind}: {self.fault}"


def make_input(seed: int) -> Input:
    """The spoiled input of a seed, always the same; the formats come in turn."""
    made = unspoiled(FORMATS[seed % len(FORMATS)])
    rng = np.random.default_rng(seed)
    ways = spoil_bytes.WAYS + _WAYS[made.format.split()[0]]
    for i in rng.permutation(len(ways)):
        ways[i](made, rng)
        if made.kind:
            return made
    raise AssertionError(f"nothing can be done to {made.format}")


def read_one(seed: int, folder: Path) -> Outcome:
    """Make the input of a seed in `folder`, and read it as the container does, and a series as the batch does too."""
    made = make_input(seed)
    path = made.write(folder / "case")
    begun = time.perf_counter()
    refused, fault = False, None
    try:
        fault = wrong_success(read_ct(path), made)
    except ImageError as error:
        refused, fault = True, _wrong_refusal(error, path.name)
    except BaseException as error:
        fault = f"raised {type(error).__name__}: {error}"
    if not made.ct:
        fault = fault or _batch_fault(path, made)
    seconds = time.perf_counter() - begun
    return Outcome(seed, made.format, made.kind, refused, fault, round(seconds, 2), _peak_mb())


def wrong_success(volume: Volume, made: Input) -> str | None:
    """What is wrong with a volume that passed all checks, by rules that are written down here once more."""
    if made.hopeless:
        return f"accepted as {volume.shape}"
    if made.ct and volume.array.size != np.prod(SHAPE):
        return f"accepted as {volume.shape}"
    if not made.ct and (volume.shape[1:] != SERIES_SHAPE[1:] or len(volume.array) > SERIES_SHAPE[0]):
        return f"accepted as {volume.shape}"
    spacing_mm = np.linalg.norm(volume.affine[:3, :3], axis=0)
    axes = volume.affine[:3, :3] / spacing_mm
    if not (np.abs(axes.T @ axes - np.eye(3)).max() < 1.1e-3 and np.isfinite(volume.affine).all()):
        return f"accepted with the affine {volume.affine.tolist()}"
    if not all(0.2 <= s <= 15 for s in spacing_mm):
        return f"accepted with a spacing of {spacing_mm} mm"
    across_mm = np.delete(spacing_mm * volume.shape, np.abs(axes[2]).argmax())  # all but the axis along the patient
    if not all(100 <= e <= 800 for e in across_mm):
        return f"accepted with a field of view of {across_mm} mm"
    if volume.array[0, 0, 0] == OUTSIDE_HU:
        return "another file was read than those of the case"
    if not (np.isfinite(volume.array).all() and np.abs(volume.array.astype(float)).max() <= 2**16):
        return "accepted with voxels that are not HU"
    return None


def _wrong_refusal(error: ImageError, name: str) -> str | None:
    """What is wrong with a refusal, be it that ITK asked for too much memory before."""
    sentence = str(error)
    cause: BaseException | None = error
    while cause := cause.__cause__ or cause.__context__:
        if isinstance(cause, MemoryError) or re.search("alloc|memory", str(cause)):
            return f"asked for more than {MEMORY_BYTES / 1e9:g} GB: {sentence}"
    is_plain = (
        sentence.isprintable() and len(sentence) < 250 and not re.search(r"itk::|\.cxx|0x\w{6}|Traceback", sentence)
    )
    return None if is_plain and re.match(rf"{re.escape(name)}(:| cannot be) ", sentence) else f"refused by {sentence!r}"


def _batch_fault(folder: Path, made: Input) -> str | None:
    """What should not have happened where the batch finds and opens a series."""
    scratch = folder.with_name("scratch")
    scratch.mkdir()
    try:
        for found in discover([folder]):
            if isinstance(found, SetAside) and not found.failed:
                continue
            if isinstance(found, SetAside):
                fault = _wrong_refusal(ImageError("{reason}", reason=found.reason), found.case.path.name)
            else:
                fault = wrong_success(found.case.open(scratch).volume, made)
            if fault:
                return f"in the batch {fault}"
    except ImageError as error:
        return _wrong_refusal(error, folder.name)
    except StartError as error:
        return None if str(error).startswith("No CT found in ") else f"in the batch {error}"
    except BaseException as error:
        return f"in the batch raised {type(error).__name__}: {error}"
    return None


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1000


def _serve(connection: Connection) -> None:
    """Read what is asked for until the other side hangs up."""
    warnings.simplefilter("ignore")
    sitk.ProcessObject.GlobalWarningDisplayOff()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("ready")
    while True:
        try:
            seed = connection.recv()
        except EOFError:
            return
        with TemporaryDirectory() as folder:
            connection.send(read_one(seed, Path(folder)))


class _Reader:
    """A process that reads one input after the other, started again after it crashed or hung."""

    def __init__(self) -> None:
        self._process: Any = None
        self._connection: Any = None

    def read(self, seed: int) -> Outcome:
        if self._process is None:
            self._start()
        self._connection.send(seed)
        fault = f"took longer than {SECONDS:g} s"
        try:
            if self._connection.poll(SECONDS):
                return self._connection.recv()
        except EOFError:
            self._process.join()
            status = self._process.exitcode
            fault = f"crashed ({signal.Signals(-status).name})" if status < 0 else f"ended with status {status}"
        self.close()
        made = make_input(seed)
        return Outcome(seed, made.format, made.kind, fault=fault)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(_START_SECONDS):
            raise TimeoutError("the reading process does not start")
        self._connection.recv()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def read_all(seeds: Iterable[int]) -> Iterator[Outcome]:
    """The outcome of every seed's input, in their order."""
    readers = [_Reader() for _ in range(_PROCESSES)]
    free: SimpleQueue[_Reader] = SimpleQueue()
    for reader in readers:
        free.put(reader)

    def read(seed: int) -> Outcome:
        reader = free.get()
        try:
            return reader.read(seed)
        finally:
            free.put(reader)

    with ThreadPoolExecutor(_PROCESSES) as pool:
        try:
            yield from pool.map(read, seeds)
        finally:
            for reader in readers:
                reader.close()
