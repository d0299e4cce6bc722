"""A small CT in every format, and the files of one that are to be spoiled."""

from __future__ import annotations

import locale
import os
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.random import Generator
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ImplicitVRLittleEndian,
    RLELossless,
)

SHAPE = (8, 128, 128)  # z, y, x of the image files
SERIES_SHAPE = (10, 64, 64)  # of the DICOM series; the batch segments none with fewer slices
FIELD_MM = 256.0
OUTSIDE_HU = 333  # in a corner of a whole CT that lies beside the case's folder
IMAGE_FORMATS = {  # the file that is read, and whether its voxels are compressed
    "mha": ("ct.mha", False), "mha zlib": ("ct.mha", True), "mhd raw": ("ct.mhd", False), "mhd zraw": ("ct.mhd", True),
    "nrrd": ("ct.nrrd", False), "nrrd gzip": ("ct.nrrd", True), "nhdr raw": ("ct.nhdr", False),
    "nhdr gzip": ("ct.nhdr", True), "nii": ("ct.nii", False), "nii.gz": ("ct.nii.gz", True),
    "nii pair": ("ct.hdr", False), "nifti2": ("ct.nii", False), "mha text": ("ct.mha", False),
    "nrrd text": ("ct.nrrd", False),
}  # fmt: skip
SERIES_FORMATS = {  # how SimpleITK compresses it
    "dicom": None, "dicom implicit": None, "dicom rle": None, "dicom jpeg": "JPEG", "dicom jpeg2000": "JPEG2000",
    "dicom deflated": None, "dicom frames": None,
}  # fmt: skip
FORMATS = (*IMAGE_FORMATS, *SERIES_FORMATS)


@dataclass
class Input:
    """A case's files by name, and what was done to them."""

    format: str
    files: dict[str, bytes]
    ct: str  # the file that is read; blank for a folder with a series
    kind: str = ""
    hopeless: bool = False  # it must be refused
    pipes: list[str] = field(default_factory=list)

    def spoil(self, kind: str, hopeless: bool = False) -> None:
        self.kind, self.hopeless = kind, hopeless

    def any_file(self, rng: Generator) -> str:
        return choose(rng, sorted(self.files))

    def write(self, folder: Path) -> Path:
        """Lay the files into a new folder, and beside it a CT that no header of theirs may lead to."""
        folder.mkdir()
        outside = folder.parent / "outside.raw"
        outside.write_bytes(outside_voxels())
        for name, data in self.files.items():
            (folder / name).write_bytes(data.replace(b"{outside}", os.fsencode(outside)))
        for name in self.pipes:
            os.mkfifo(folder / name)
        return folder / self.ct if self.ct else folder


def choose(rng: Generator, values: Any) -> Any:
    """One of `values`, as it is: numpy would turn them into its own types."""
    return values[int(rng.integers(len(values)))]


def unspoiled(format: str) -> Input:
    """A sound CT."""
    ct = IMAGE_FORMATS[format][0] if format in IMAGE_FORMATS else ""
    return Input(format, dict(_files(format)), ct)


def chest_hu(shape: tuple[int, int, int]) -> np.ndarray:
    """A round body of 50 HU with two lungs, in air, with noise."""
    y, x = ((np.arange(size) / (size - 1) - 0.5) * FIELD_MM for size in shape[1:])
    y = y[:, None]
    hu = np.full(shape, -1000.0)
    hu[:, (x / 115) ** 2 + (y / 85) ** 2 < 1] = 50
    for side in (-1, 1):
        hu[:, ((x - 55 * side) / 35) ** 2 + (y / 60) ** 2 < 1] = -850
    return (hu + np.random.default_rng(0).normal(0, 8, shape)).round().astype(np.int16)


@cache
def outside_voxels() -> bytes:
    voxels = chest_hu(SHAPE)
    voxels[0, 0, 0] = OUTSIDE_HU
    return voxels.tobytes()


def _chest(shape: tuple[int, int, int]) -> sitk.Image:
    image = sitk.GetImageFromArray(chest_hu(shape))
    image.SetSpacing((FIELD_MM / shape[2], FIELD_MM / shape[1], 4.0))
    image.SetOrigin((-128.0, -128.0, -40.0))
    return image


@cache
def _files(format: str) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        if format in IMAGE_FORMATS:
            name, compress = IMAGE_FORMATS[format]
            sitk.WriteImage(_chest(SHAPE), str(Path(folder, name)), useCompression=compress)
            if format in _REWRITTEN:
                path = Path(folder, name)
                path.write_bytes(_REWRITTEN[format](path.read_bytes()))
        else:
            _write_series(Path(folder), format)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _write_series(folder: Path, format: str) -> None:
    image = _chest(SERIES_SHAPE)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    if SERIES_FORMATS[format]:
        writer.UseCompressionOn()
        writer.SetCompressor(SERIES_FORMATS[format])
    for z in range(len(chest_hu(SERIES_SHAPE))):
        position = image.TransformIndexToPhysicalPoint((0, 0, z))
        part = image[:, :, z : z + 1]
        for tag, value in {
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL", "0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0008|0060": "CT",
            "0008|0018": f"1.2.3.4.{z + 1}", "0008|0020": "20230101", "0008|0030": "101112", "0018|0050": "4",
            "0020|000d": "1.2.3", "0020|000e": "1.2.3.4", "0020|0032": "\\".join(map(str, position)),
            "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0052": "1.2.3.5", "0028|1052": "-1024", "0028|1053": "1",
        }.items():  # fmt: skip
            part.SetMetaData(tag, value)
        path = folder / f"{z:04}.dcm"
        writer.SetFileName(str(path))
        used = locale.setlocale(locale.LC_ALL)
        writer.Execute(part)
        locale.setlocale(locale.LC_ALL, used)  # the writer leaves "C", in which texts are ASCII
        if format in ("dicom rle", "dicom implicit", "dicom deflated"):
            _rewrite(path, format)
    if format == "dicom frames":
        _join(folder)


def _rewrite(path: Path, format: str) -> None:
    """In a form that SimpleITK does not write, with sequences."""
    code, image = pydicom.Dataset(), pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113076", "DCM", "Segmentation"
    image.ReferencedSOPInstanceUID, image.PurposeOfReferenceCodeSequence = "1.2.3", [code, code]
    dataset = pydicom.dcmread(path)
    dataset.SourceImageSequence = [image, image]
    if format == "dicom rle":
        dataset["SourceImageSequence"].is_undefined_length = True
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    elif format == "dicom deflated":
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    else:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path, implicit_vr=True, little_endian=True)


def _join(folder: Path) -> None:
    """Turn the slices of a folder into the frames of one Enhanced CT object."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    whole = slices[0]
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    whole.NumberOfFrames = len(slices)
    whole.PixelData = b"".join(one.PixelData for one in slices)
    plane = _sequences({"PlaneOrientationSequence": whole, "PixelMeasuresSequence": whole})
    whole.SharedFunctionalGroupsSequence = [plane]
    whole.PerFrameFunctionalGroupsSequence = [
        _sequences({"PlanePositionSequence": one, "PixelValueTransformationSequence": one}) for one in slices
    ]
    for tag in (tag for tags in _OF_FRAMES.values() for tag in tags if tag in whole):
        delattr(whole, tag)
    whole.save_as(folder / "0000.dcm")


_OF_FRAMES = {
    "PlanePositionSequence": ("ImagePositionPatient",), "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
}  # fmt: skip


def _sequences(sources: dict[str, pydicom.Dataset]) -> pydicom.Dataset:
    """Functional groups with the tags of a slice."""
    groups = pydicom.Dataset()
    for name, source in sources.items():
        item = pydicom.Dataset()
        for tag in _OF_FRAMES[name]:
            item[tag] = source[tag]
        setattr(groups, name, [item])
    return groups


def _text_mha(data: bytes) -> bytes:
    header, end = data.replace(b"BinaryData = True", b"BinaryData = False"), b"ElementDataFile = LOCAL\n"
    return header[: header.index(end)] + end + _as_text(data)


def _text_nrrd(data: bytes) -> bytes:
    return data[: data.index(b"\n\n") + 2].replace(b"encoding: raw", b"encoding: text") + _as_text(data)


def _as_text(data: bytes) -> bytes:
    voxels = np.frombuffer(data[-2 * int(np.prod(SHAPE)) :], "<i2")
    return " ".join(map(str, voxels.tolist())).encode()


def _nifti2(data: bytes) -> bytes:
    """A NIfTI-2 file of a NIfTI-1 file, field by field."""

    def read(form: str, place: int) -> tuple[Any, ...]:
        return struct.unpack_from("<" + form, data, place)

    header = bytearray(540)
    struct.pack_into("<i8s2h", header, 0, 540, b"n+2\0\r\n\x1a\n", *read("2h", 70))
    struct.pack_into("<8q", header, 16, *read("8h", 40))
    struct.pack_into("<8d", header, 104, *read("8f", 76))
    struct.pack_into("<q2d", header, 168, 544, *read("2f", 112))
    struct.pack_into("<2i6d12d", header, 344, *read("2h", 252), *read("6f", 256), *read("12f", 280))
    struct.pack_into("<i", header, 500, *read("b", 123))
    return bytes(header) + bytes(4) + data[352:]


_REWRITTEN = {"mha text": _text_mha, "nrrd text": _text_nrrd, "nifti2": _nifti2}
