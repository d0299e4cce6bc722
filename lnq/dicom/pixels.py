"""The pixels of CT slices in HU: slope x stored value + intercept, whatever the photometric interpretation."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom

from lnq.dicom.choice import HU_TYPES
from lnq.dicom.header import SliceFile
from lnq.dicom.structure import find_pixels, open_plain
from lnq.errors import Damaged, ImageError
from lnq.image.headers.layout import printable
from lnq.image.plausible import MOST_HU

_MOST_PIXELS = 2**24  # in a slice: the file's length does not limit those of a compressed one
_MOST_FRAMES = 2**13
_MOST_HEADER = 2**24  # bytes of a file beside its pixels
_SCALE = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))


def read_hu(slices: Sequence[SliceFile]) -> np.ndarray:
    """The slices' pixels in their order: int16 HU [Z, Y, X], clamped to the range of int16.

    The slices are of one size. Raises ImageError where files are damaged, where some slices have a scale and others
    have none, and where the values are no HU.
    """
    if math.prod(_size(slices[0])) > _MOST_PIXELS:
        raise _wrong_size(slices[0])
    _check_scales(slices)
    files: dict[Path, np.ndarray] = {}  # of the last file
    frames = Counter(one.path for one in slices)
    planes = np.empty((len(slices), *_size(slices[0])), np.int16)
    for plane, one in zip(planes, slices, strict=True):
        if one.path not in files:
            files = {one.path: _stored(one, frames[one.path])}
        slope, intercept = (float(one.header.get(tag, usual)) for tag, usual in _SCALE)
        hu = files[one.path][one.frame] * slope + intercept
        low, high = float(hu.min()), float(hu.max())
        if not -MOST_HU <= low <= high <= MOST_HU:
            raise ImageError("its values are not HU: they go from {low:.3g} to {high:.3g}", low=low, high=high)
        plane[:] = np.clip(np.rint(hu), -32768, 32767)
    return planes


def _size(one: SliceFile) -> tuple[int, int]:
    return int(one.header.Rows), int(one.header.Columns)


def _check_scales(slices: Sequence[SliceFile]) -> None:
    """Raise ImageError where the HU of some slices would be guessed."""
    for tag, _ in _SCALE:
        without = sum(one.header.get(tag) is None for one in slices)
        if 0 < without < len(slices):
            sentence = "{count} of its {all} slices have lost their rescale slope or intercept, so their HU are unknown"
            raise ImageError(sentence, count=without, all=len(slices))
    for one in slices:
        unit = str(one.header.get("RescaleType") or "").strip()
        if unit.upper() not in HU_TYPES:
            raise ImageError("its values are {unit}, not HU", unit=printable(unit, 20))


def _stored(one: SliceFile, frames: int) -> np.ndarray:
    """The stored values of all frames of a slice's file, [F, Y, X], of which `frames` are expected."""
    header, name = one.header, one.path.name
    try:
        bits, stored = int(header.BitsAllocated), int(header.get("BitsStored") or header.BitsAllocated)
        high, signed = int(header.get("HighBit") or stored - 1), bool(header.get("PixelRepresentation"))
        if bits not in (8, 16, 32) or not 0 < stored <= high + 1 <= bits:
            raise ValueError
    except (AttributeError, TypeError, ValueError):
        raise ImageError("its slice {file} has no usable size of a pixel in bits", file=name) from None
    try:
        values = _values(one, frames, bits, signed)
    except Damaged as damage:
        raise ImageError("its file {file} cannot be read: {damage}", file=name, damage=damage) from None
    if values.dtype.itemsize * 8 == bits:  # drop what lies beyond the stored bits, and extend the sign
        values = (values << (bits - 1 - high)) >> (bits - stored)
    return values


def _values(one: SliceFile, frames: int, bits: int, signed: bool) -> np.ndarray:
    """The values as stored, [F, Y, X], with all allocated bits. Raises Damaged and ImageError."""
    kind = np.dtype(f"<{'i' if signed else 'u'}{bits // 8}")
    rows, columns = _size(one)
    frame = rows * columns * kind.itemsize
    if frames > _MOST_FRAMES:
        raise _wrong_size(one)
    with open_plain(one.path, frames * frame + _MOST_HEADER) as (file, size):
        found = find_pixels(file, size)
        if found.size not in (None, frames * frame, frames * frame + frames * frame % 2):
            raise _wrong_size(one)
        if found.compressed:
            return _decoded(one, frames)
        file.seek(found.offset)
        kind = kind.newbyteorder(">") if found.big_endian else kind
        values = np.frombuffer(file.read(frames * frame), kind)
    return values.astype(kind.newbyteorder("="), copy=False).reshape(frames, rows, columns)


def _wrong_size(one: SliceFile) -> ImageError:
    claim = "its file {file} does not hold the {rows} x {columns} pixels that it claims"
    rows, columns = _size(one)
    return ImageError(claim, file=one.path.name, rows=rows, columns=columns)


def _whole(one: SliceFile) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(one.path, force=True)
    except Exception:  # pydicom raises errors of many kinds for a damaged file
        raise Damaged("it is damaged") from None


def _decoded(one: SliceFile, frames: int) -> np.ndarray:
    """Decode compressed pixels by SimpleITK's GDCM, from a private file that holds nothing but these pixels.

    So GDCM neither scales nor inverts them, and any name will do.
    """
    import SimpleITK as sitk

    whole = _whole(one)
    bare = pydicom.Dataset()
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = whole.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID = pydicom.uid.CTImageStorage
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID = pydicom.uid.generate_uid()
    bare.Modality, bare.PhotometricInterpretation, bare.SamplesPerPixel = "CT", "MONOCHROME2", 1
    for tag in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"):
        if tag in whole:
            bare[tag] = whole[tag]
    bare["PixelData"] = whole["PixelData"]
    with tempfile.TemporaryDirectory(prefix="lnq-") as folder:
        path = Path(folder) / "pixels.dcm"
        bare.save_as(path, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        try:
            values = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError:
            raise ImageError("the pixels of its slices cannot be read: files may be damaged") from None
    values = values.reshape(-1, *values.shape[-2:])
    if values.shape != (frames, *_size(one)):
        raise ImageError("its slices are of another size than their headers say")
    return values
