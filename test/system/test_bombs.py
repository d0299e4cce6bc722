"""Small files that would unpack to gigabytes: searching them takes little memory, reading them no more than allowed."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_slices import slice_dataset
from helpers.paths import ROOT
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lnq.batch.record import read_manifest

MOST_MB, MOST_FILE = 300, 10_000_000
ZEROS = bytes(1 << 20)


def deflated(path: Path) -> None:
    """A DICOM file with an element of 3 GB."""
    dataset = slice_dataset(np.zeros((64, 64)), (0, 0, 0))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    end = 144 + struct.unpack_from("<I", data, 140)[0]
    packer = zlib.compressobj(wbits=-15)
    start = packer.compress(struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 3 << 30)) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(
        data[:end] + start + zeros * 3072 + packer.compress(zlib.decompress(data[end:], -15)) + packer.flush()
    )


def many_members(path: Path) -> None:
    """A zip archive's list of 200,000 files, and nothing else."""
    head = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0)
    entries = b"".join(head + b"%04x" % (n & 0xFFFF) for n in range(200_000))
    path.write_bytes(entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entries), 0, 0))


def many_in_tar(path: Path) -> None:
    """A packed tar archive of 700,000 empty files."""
    with gzip.open(path, "wb") as file:
        for start in range(0, 700_000, 10_000):
            file.write(b"".join(tarfile.TarInfo(f"{n:07}").tobuf() for n in range(start, start + 10_000)))


def zeros_in_zip(path: Path) -> None:
    """A zip archive of a member of 4 GB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("a.dcm", "w", force_zip64=True) as file,
    ):
        for _ in range(4096):
            file.write(ZEROS)


def zips_in_zip(path: Path) -> None:
    """The same within another archive."""
    zeros_in_zip(path.with_suffix(".inner"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(path.with_suffix(".inner"), "a.zip")
    path.with_suffix(".inner").unlink()


BOMBS: dict[str, Callable[[Path], None]] = {
    "deflated.dcm": deflated, "many.zip": many_members, "many.tgz": many_in_tar, "zeros.zip": zeros_in_zip,
    "zips.zip": zips_in_zip,
}  # fmt: skip
SEARCH = """
import json, resource, sys
from pathlib import Path
from lnq.archive.discovery import discover
from lnq.errors import StartError
try:
    told = [str(getattr(found, "reason", "a case")) for found in discover([Path(sys.argv[1])])]
except StartError as error:
    told = [str(error)]
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, told]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_searching_a_bomb_takes_little_memory(tmp_path, name):
    path = tmp_path / name
    BOMBS[name](path)
    assert path.stat().st_size <= MOST_FILE + 100
    done = subprocess.run([sys.executable, "-c", SEARCH, path], cwd=ROOT, capture_output=True, text=True, check=True)
    peak_mb, told = json.loads(done.stdout)
    assert peak_mb < MOST_MB
    assert told and "a case" not in told


@pytest.mark.slow
def test_reading_a_bomb_ends_at_the_limit(tmp_path, tiny_bundle):
    """3 GB of voxels with a plausible geometry, in a file of 3 MB."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 1024, 1024, 1536, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<4f", header, 76, 1, 0.5, 0.5, 1.0)
    struct.pack_into("<f2f", header, 108, 352, 1, 0)
    struct.pack_into("<2h", header, 252, 1, 0)
    header[344:348] = b"n+1\0"
    member = gzip.compress(bytes(1 << 24), 9)
    (tmp_path / "in").mkdir()
    with open(tmp_path / "in" / "bomb.nii.gz", "wb") as file:
        file.write(gzip.compress(bytes(header)) + member * 192)
    command = [sys.executable, "process.py", "batch", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    limited = ["--model", str(tiny_bundle), "--memory-limit", "2"]
    done = subprocess.run([*command, *limited], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    error = read_manifest(tmp_path / "out")["bomb"].error
    assert error == "bomb.nii.gz could not be segmented: it took more than 2 GB of memory"
