"""A night's archive: 200 cases in one run, 20 of them broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.bad_files import BAD_FILES
from helpers.paths import ROOT

from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from phantom.make import make_phantom

CASES, BROKEN = 200, 20
SIZE, SPACING_MM = (48, 192, 192), (6.0, 2.0, 2.0)
DIFFERENT = 12  # phantoms; the others are these with other noise


def sound_cases(folder: Path, count: int) -> None:
    """Phantoms of one size."""
    rng = np.random.default_rng(0)
    drawn = [make_phantom(60000 + seed, SPACING_MM, SIZE).ct for seed in range(DIFFERENT)]
    for index in range(count):
        ct = drawn[index % DIFFERENT]
        noisy = ct.with_array((ct.array + rng.integers(-5, 6, ct.shape)).astype(np.int16))
        write_volume(noisy, folder / f"ct{index:03}.mha")


def break_one(folder: Path, index: int, sound: Volume, write_dicom: Callable[..., Path]) -> None:
    """A case that must fail; `index` chooses how."""
    kinds = [b for b in BAD_FILES if b[0] != "notes.txt"]  # that no folder's search takes for a case
    if index < 16:
        name, write, _ = kinds[index]
        write(sound, folder / f"broken-{name}")
        return
    series = folder / f"broken{index}" / f"series-broken{index}"
    if index == 16:
        write_dicom(sound, series, modality="MR", StudyInstanceUID="1.6.1")
        return
    write_dicom(sound, series, StudyInstanceUID=f"1.6.{index}")
    file = series / "0020.dcm"
    if index == 17:
        file.unlink()
    elif index == 18:
        file.write_bytes(file.read_bytes()[:-500])
    else:
        file.write_bytes(file.read_bytes()[:200])


def peak_kb(parent: int) -> int:
    """Peak resident memory of the workers of a run, in kB."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")  # a thread's own children are listed with it
    children = [child for task in tasks for child in task.read_text().split()]
    peaks = [0]
    for child in children:
        status = Path(f"/proc/{child}/status").read_text()
        peaks += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    return max(peaks)


@pytest.mark.slow
def test_two_hundred_cases_with_twenty_broken_ones(tmp_path, thorax, tiny_bundle, write_dicom):
    folder = tmp_path / "archive"
    folder.mkdir()
    sound_cases(folder, CASES - BROKEN)
    for index in range(BROKEN):
        break_one(folder, index, thorax, write_dicom)
    command = [sys.executable, ROOT / "process.py", "batch", str(folder), "-o", str(tmp_path / "out")]
    command += ["--model", str(tiny_bundle), "--json"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    entries, peaks = [], []
    for line in run.stdout:
        entries.append(json.loads(line))
        if entries[-1]["status"] == "done":
            peaks.append(peak_kb(run.pid))
    assert run.wait() == 1
    status = [entry["status"] for entry in entries]
    assert (status.count("done"), status.count("failed")) == (CASES - BROKEN, BROKEN)
    assert all("broken" in entry["error"] for entry in entries if entry["status"] == "failed")
    early, late = max(peaks[:20]), max(peaks)
    print(f"peak memory of a worker: {early / 1e6:.3f} GB after 20 results, {late / 1e6:.3f} GB after all")
    assert late <= 1.05 * early
