"""Check that an image file is what its header claims, before ITK opens it.

ITK reads truncated NIfTI and damaged compressed MetaImage files as garbage. It allocates whatever size a header claims,
opens whatever file a header names, and invents a geometry where a header gives none or contradicts itself. So headers
are read here first, with one module per format. Ambiguous headers are refused, and the number of voxel bytes must be
exact.
"""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from lnq.errors import Damaged
from lnq.image.headers.layout import NO_IMAGE, Layout, check_count
from lnq.image.headers.metaimage import metaimage_layout
from lnq.image.headers.nifti import nifti_layout
from lnq.image.headers.nrrd import nrrd_layout

_CHUNK = 1 << 20  # bytes read or unpacked at a time, so that a check needs little memory
_FORMATS: dict[tuple[str, ...], Callable[[Path], Layout]] = {
    (".nii", ".nii.gz"): nifti_layout,
    (".mha", ".mhd"): metaimage_layout,
    (".nrrd", ".nhdr"): nrrd_layout,
}


def check_file(path: Path) -> Layout:
    """The layout of an image file. Raises Damaged where the file is not what its header claims."""
    name = path.name.lower()
    read = next((read for extensions, read in _FORMATS.items() if name.endswith(extensions)), None)
    if read is None:
        raise Damaged(NO_IMAGE)
    try:
        layout = read(path)
        check_count(_bytes_found(layout), layout.size)
    except Damaged:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error, ValueError, OverflowError):
        raise Damaged("it is truncated or damaged") from None
    return layout


def _bytes_found(layout: Layout) -> int:
    """How many bytes of voxels the file holds, unpacked. Counting stops once they are more than the layout's."""
    if layout.packing == "raw":
        return max(0, layout.path.stat().st_size - layout.offset)
    found = 0
    with layout.path.open("rb") as file:
        file.seek(layout.offset)
        for length in _inflated(file) if layout.packing == "zlib" else _unzipped(file):
            found += length
            if found > layout.size:
                break
    return found


def _unzipped(file: BinaryIO) -> Iterator[int]:
    """Lengths of the chunks that gzip unpacks. It tests the checksum at the end."""
    with gzip.GzipFile(fileobj=file) as unpacked:
        while chunk := unpacked.read(_CHUNK):
            yield len(chunk)


def _inflated(file: BinaryIO) -> Iterator[int]:
    """Lengths of the chunks that a zlib or gzip stream unpacks to. Raises Damaged where bytes follow it."""
    inflate = zlib.decompressobj(wbits=47)
    while not inflate.eof and (chunk := inflate.unconsumed_tail or file.read(_CHUNK)):
        yield len(inflate.decompress(chunk, _CHUNK))
    yield len(inflate.flush())
    if not inflate.eof:
        raise Damaged("it is truncated: its compressed voxels stop before their end")
    if inflate.unused_data or file.read(1):
        raise Damaged("something follows its compressed voxels")
