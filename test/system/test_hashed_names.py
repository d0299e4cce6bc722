"""A run with hashed names, over inputs in which every text names the patient: nothing that it leaves or says does."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from helpers.bad_files import edit_header
from helpers.found import pack
from helpers.paths import ROOT
from pydicom.datadict import dictionary_VR
from pydicom.valuerep import STR_VR

from lnq.dicom.header import OF_CHOICE, OF_GATHERING, OF_IMAGE, OF_RESULTS
from lnq.image.itk import write_volume
from lnq.image.volume import Volume

MARK = "MUSTERHANS"
KEPT = {"SOPClassUID", "Modality", "ImageType", "SpecificCharacterSet", "RescaleType"}  # without them no CT is found


def mark_all(path: Path, **others: object) -> None:
    """Put the mark into every text element that is ever read, in whatever form that element allows."""
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for tag in {*OF_CHOICE, *OF_GATHERING, *OF_IMAGE, *OF_RESULTS} - KEPT:
            kind = dictionary_VR(tag)
            if kind not in STR_VR or kind in ("DS", "IS") or tag == "SOPInstanceUID":
                continue
            setattr(dataset, tag, f"{MARK}^{tag}"[: 16 if kind in ("SH", "CS", "AE") else 60])
        dataset.add_new(0x00091001, "LO", MARK)
        for tag, value in others.items():
            setattr(dataset, tag, value)
        dataset.save_as(path)


@pytest.fixture
def archive(tmp_path: Path, thorax: Volume, write_dicom) -> Path:
    """Sound and broken inputs of all kinds."""
    folder = tmp_path / "in"
    for name, tags in {
        "sound": {},
        "second": {"ConvolutionKernel": f"{MARK}2"},
        "mr": {"Modality": MARK},
        "unit": {"RescaleType": MARK},
        "missing": {"StudyInstanceUID": f"{MARK}3"},
        "damaged": {"StudyInstanceUID": f"{MARK}4"},
    }.items():
        series = write_dicom(thorax, folder / f"{MARK}_{name}")
        for path in series.iterdir():
            mark_all(path, **tags)
    for number in (5, 6, 7, 8):
        (folder / f"{MARK}_missing" / f"{number:04}.dcm").unlink()
    odd = folder / f"{MARK}_damaged" / "0003.dcm"
    odd.rename(odd.with_name(f"{MARK}.dcm")).write_bytes(odd.with_name(f"{MARK}.dcm").read_bytes()[:500])
    (folder / f"{MARK}_damaged" / "0002.dcm").write_bytes(b"\0" * 128 + b"DICM" + MARK.encode() * 50)
    edit_header(thorax, folder / f"{MARK}.mha", "ElementType", MARK)
    edit_header(thorax, folder / f"{MARK}2.mha", "ElementSpacing", f"1 1 {MARK}")
    write_volume(thorax, folder / f"{MARK}\x1b[2J sound.nii.gz")
    (folder / f"{MARK}.nhdr").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\nspacings: 1 1 1\nendian: little\n"
        b"data file: /%s/x.raw\n\n" % MARK.encode()
    )
    (folder / f"{MARK}.mhd").write_text(f"ObjectType = Image\nNDims = 3\n{MARK} = 1\nElementDataFile = {MARK}.raw\n")
    (folder / f"{MARK}.nii").write_bytes(MARK.encode() * 100)
    (folder / f"{MARK}.txt").write_text(MARK)
    (folder / f"{MARK}.zip").write_bytes(b"PK\3\4" + MARK.encode() * 20)
    inside = tmp_path / "inside"
    write_volume(thorax, inside_path := _folder(inside / MARK) / f"{MARK}-in-zip.nrrd")
    (inside_path.parent / f"{MARK}-bad.mha").write_text(MARK)
    pack(inside, folder / f"{MARK}-two.zip")
    return folder


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def texts_of(output: Path) -> Iterator[tuple[str, bytes]]:
    """The names of all files, and their contents, also as they are once unpacked."""
    for path in output.rglob("*"):
        yield str(path), str(path.relative_to(output)).encode(errors="surrogateescape")
        if path.is_file():
            data = path.read_bytes()
            yield path.name, data
            for place in (match.start() for match in re.finditer(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]", data)):
                try:
                    yield f"{path.name}, unpacked", zlib.decompressobj(wbits=47).decompress(data[place:], 10**7)
                except zlib.error:
                    continue


@pytest.mark.parametrize(
    "options", [pytest.param([], marks=pytest.mark.slow), ["--all-series", "--format", "nifti", "--probability"]]
)
def test_no_mark_is_left_or_said(tmp_path, archive, tiny_bundle, options):
    output, log = tmp_path / "out", tmp_path / "log"
    command = [sys.executable, "process.py", "batch", str(archive), "-o", str(output), "--model", str(tiny_bundle)]
    hashed = ["--case-names", "hash", "--key", str(tmp_path / "key"), "--log", str(log)]
    done = subprocess.run([*command, *hashed, *options], cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert done.returncode == 1
    told = done.stdout + done.stderr + log.read_bytes()
    assert told.count(b"done in") >= 4
    for sentence in (
        b"slices are missing",
        b"its file (not shown) is damaged",
        b"it holds (not shown) images, not a CT",
    ):
        assert sentence in told
    for place, text in [("what it said", told), *texts_of(output)]:
        for mark in (MARK, MARK.lower(), MARK.title()):
            found = text.find(mark.encode())
            assert found < 0, f"{place}: {text[max(0, found - 80) : found + 80]!r}"
    owners = (tmp_path / "key.cases.csv").read_text(errors="surrogateescape")
    assert owners.count(MARK) > 10


def test_the_scan_would_find_a_mark(tmp_path):
    """In a name, in a file, within a packed file and within a packed part of one."""
    (tmp_path / f"{MARK}.csv").write_text("a")
    (tmp_path / "b.csv").write_text(MARK)
    (tmp_path / "c.gz").write_bytes(gzip.compress(MARK.encode()))
    (tmp_path / "d.mha").write_bytes(b"header" + zlib.compress(MARK.encode()))
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as packed:
        packed.writestr("x", MARK)
    assert {place for place, text in texts_of(tmp_path) if MARK.encode() in text} == {
        str(tmp_path / f"{MARK}.csv"), "b.csv", "c.gz, unpacked", "d.mha, unpacked", "e.zip",
    }  # fmt: skip
