"""Time and memory of finding the cases of an archive, beside pydicom reading the same headers and doing nothing else.

    python -m benchmarks.discovery -o docs/results

The archive has 100 patients with two series of 100 slices each: 20,000 files. Each run has a process of its own. The
two take turns, after one run that warms the disk's cache. Writes discovery.csv and .md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.machine import caption
from benchmarks.output import markdown_table, write_csv
from lnq.archive.discovery import ToSegment, discover
from lnq.dicom import header
from lnq.files import write_text
from lnq.version import __version__

SIZE = (64, 64)  # rows and columns of a slice


@dataclass(frozen=True)
class Searched:
    """One run over the archive."""

    found: int  # cases, or headers
    parsed: int  # headers that were parsed
    seconds: float
    peak_mb: float  # of the process


def write_archive(folder: Path, patients: int, slices: int) -> None:
    """Write two CT series for each patient."""
    for patient in range(patients):
        study = generate_uid()
        for kernel in ("B31f", "B70f"):
            _write_series(folder / f"patient-{patient:03}" / kernel, f"P{patient}", study, kernel, slices)


def _write_series(folder: Path, patient: str, study: str, kernel: str, slices: int) -> None:
    folder.mkdir(parents=True)
    series = generate_uid()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    one = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    one.SOPClassUID, one.StudyInstanceUID, one.SeriesInstanceUID = CTImageStorage, study, series
    one.PatientID, one.PatientName, one.PatientBirthDate = patient, f"Doe^{patient}", "19500101"
    one.Modality, one.ImageType, one.Manufacturer = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "Maker"
    one.StudyDate, one.AcquisitionTime, one.SeriesDescription = "20200101", "101010", f"Chest 3.0 {kernel}"
    one.ConvolutionKernel, one.KVP, one.SliceThickness = kernel, 120, 3
    one.ImageOrientationPatient, one.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.7, 0.7]
    one.Rows, one.Columns = SIZE
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.PixelData = np.zeros(SIZE, "<u2").tobytes()
    for z in range(slices):
        one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
        one.InstanceNumber, one.ImagePositionPatient = z + 1, [0, 0, 3 * z]
        one.save_as(folder / f"{z:04}.dcm", enforce_file_format=True)


def _by_lnq(folder: Path) -> int:
    return sum(isinstance(found, ToSegment) for found in discover([folder]))


def _by_pydicom(folder: Path) -> int:
    tags = [*header.OF_CHOICE, *header.OF_GATHERING]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return sum(bool(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags).Rows) for path in files)


CONTENDERS: dict[str, Callable[[Path], int]] = {"lnq": _by_lnq, "pydicom": _by_pydicom}


def search(contender: str, folder: Path) -> Searched:
    """Let a contender search a folder in this process."""
    parsed = 0
    read = pydicom.dcmread

    def count(*arguments: object, **options: object) -> pydicom.FileDataset:
        nonlocal parsed
        parsed += 1
        return read(*arguments, **options)  # type: ignore[arg-type]

    pydicom.dcmread = count
    try:
        start = time.perf_counter()
        found = CONTENDERS[contender](folder)
        seconds = time.perf_counter() - start
    finally:
        pydicom.dcmread = read
    return Searched(found, parsed, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def _apart(contender: str, folder: Path) -> Searched:
    """Let a contender search in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.discovery", "--one", contender, str(folder)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Searched(**json.loads(answer))


def compare(folder: Path, runs: int) -> dict[str, list[Searched]]:
    """The runs of each contender, taken in turn, after one that is not counted."""
    _apart("lnq", folder)
    results: dict[str, list[Searched]] = {contender: [] for contender in CONTENDERS}
    for _ in range(runs):
        for contender in CONTENDERS:
            results[contender].append(_apart(contender, folder))
    return results


HEAD = ("reader", "found", "headers parsed", "median s", "times pydicom", "peak MB")


def rows_of(results: dict[str, list[Searched]]) -> list[tuple[str, ...]]:
    """The table's rows."""
    medians = {name: float(np.median([run.seconds for run in runs])) for name, runs in results.items()}
    return [
        (
            name,
            f"{runs[0].found:,}",
            f"{runs[0].parsed:,}",
            f"{medians[name]:.1f}",
            f"{medians[name] / medians['pydicom']:.2f}",
            f"{max(run.peak_mb for run in runs):.0f}",
        )
        for name, runs in results.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discovery", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for discovery.csv and .md")
    parser.add_argument("--patients", type=int, default=100, metavar="N")
    parser.add_argument("--slices", type=int, default=100, metavar="N", help="of each of a patient's two series")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--one", nargs=2, metavar=("READER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(vars(search(options.one[0], Path(options.one[1])))))
        return 0
    if options.output is None:
        parser.error("-o DIR is needed")
    with tempfile.TemporaryDirectory(prefix="lnq-") as folder:
        write_archive(Path(folder), options.patients, options.slices)
        rows = rows_of(compare(Path(folder), options.repeats))
    options.output.mkdir(parents=True, exist_ok=True)
    write_csv(options.output / "discovery.csv", HEAD, rows)
    title = f"# Finding {2 * options.patients} series of {options.slices} slices"
    told = caption("benchmarks.discovery", arguments, {"lnq": __version__, "pydicom": pydicom.__version__})
    write_text(options.output / "discovery.md", "\n".join([title, "", *told, *markdown_table(HEAD, rows)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
