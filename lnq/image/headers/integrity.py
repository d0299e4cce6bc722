"""Read an image file: its header by a parser of its format, then exactly the voxels that the header claims.

The file that is read is the one that was checked, because nothing else parses the header. Ambiguous headers are
refused, the number of voxel bytes must be exact, and no memory is taken for voxels that are not there.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from lnq.errors import Damaged
from lnq.image.headers.layout import NO_IMAGE, Layout, check_count
from lnq.image.headers.metaimage import metaimage_layout
from lnq.image.headers.nifti import nifti_layout
from lnq.image.headers.nrrd import nrrd_layout

Result = TypeVar("Result")
_LONGEST_NUMBER = 32  # bytes of text for a voxel
_CHUNK = 1 << 20  # bytes read or unpacked at a time
_FORMATS: dict[tuple[str, ...], Callable[[Path], Layout]] = {
    (".nii", ".nii.gz", ".hdr"): nifti_layout,
    (".mha", ".mhd"): metaimage_layout,
    (".nrrd", ".nhdr"): nrrd_layout,
}


def read_layout(path: Path) -> Layout:
    """The layout of an image file, by its header alone. Raises Damaged where the header makes no image."""
    name = path.name.lower()
    read = next((read for extensions, read in _FORMATS.items() if name.endswith(extensions)), None)
    if read is None:
        raise Damaged(NO_IMAGE)
    if path.stat().st_size == 0:
        raise Damaged("it is empty")
    return _told(lambda: read(path))


def read_voxels(layout: Layout) -> np.ndarray:
    """The voxels of an image file as they are stored, [Z, Y, X] for three axes, with the header's scale applied.

    A vector image gets its channels as last axis. Raises Damaged where the file is not what its header claims.
    """
    return _told(lambda: _read_voxels(layout))


def _told(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except Damaged:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error, ValueError, OverflowError):
        raise Damaged("it is truncated or damaged") from None


def _read_voxels(layout: Layout) -> np.ndarray:
    if layout.packing == "text":
        values = _text_values(layout)
    else:
        values = np.frombuffer(_bytes(layout), layout.dtype, offset=layout.skip)
    shape = (*layout.sizes[::-1], *((layout.channels,) if layout.channels > 1 else ()))
    array = values.reshape(shape)
    if layout.scale is not None:
        slope, intercept = layout.scale
        return (array * slope + intercept).astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _bytes(layout: Layout) -> bytearray | bytes:
    """All bytes that the header claims, unpacked: no fewer and no more."""
    with layout.path.open("rb") as file:
        file.seek(layout.offset)
        if layout.packing == "raw":
            check_count(max(0, layout.path.stat().st_size - layout.offset), layout.size)
            data: bytes | bytearray = file.read(layout.size)
        else:
            data = bytearray()
            for chunk in _inflated(file) if layout.packing == "zlib" else _unzipped(file):
                data += chunk
                if len(data) > layout.size:
                    break
    check_count(len(data), layout.size)
    return data


def _text_values(layout: Layout) -> np.ndarray:
    """The numbers of voxels that are written as text."""
    if layout.path.stat().st_size - layout.offset > layout.voxels * _LONGEST_NUMBER:
        raise Damaged("it holds more text than its voxels need")
    with layout.path.open("rb") as file:
        file.seek(layout.offset)
        words = file.read().split()
    if len(words) != layout.voxels * layout.channels:
        raise Damaged("it holds {found} of {wanted} voxels", found=len(words), wanted=layout.voxels * layout.channels)
    return np.array(words, dtype=np.float64 if layout.dtype.kind == "f" else np.int64).astype(layout.dtype)


def _unzipped(file: BinaryIO) -> Iterator[bytes]:
    """The chunks that gzip unpacks. It tests the checksum at the end."""
    with gzip.GzipFile(fileobj=file) as unpacked:
        while chunk := unpacked.read(_CHUNK):
            yield chunk


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """The chunks that a zlib or gzip stream unpacks to. Raises Damaged where bytes follow it."""
    inflate = zlib.decompressobj(wbits=47)
    while not inflate.eof and (chunk := inflate.unconsumed_tail or file.read(_CHUNK)):
        yield inflate.decompress(chunk, _CHUNK)
    yield inflate.flush()
    if not inflate.eof:
        raise Damaged("it is truncated: its compressed voxels stop before their end")
    if inflate.unused_data or file.read(1):
        raise Damaged("something follows its compressed voxels")
