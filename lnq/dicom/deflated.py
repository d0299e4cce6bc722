"""DICOM files whose elements are deflated, inflated no further than what is wanted of them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

from lnq.errors import Damaged

_PREAMBLE = 132  # bytes, with the prefix
_DEFLATED, _PLAIN = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0"  # transfer syntaxes, alike in length
_MOST_META = 1024  # bytes in which the description of the file must end
_CHUNK = 1 << 16  # bytes read at a time


def inflated(source: BinaryIO, most: int) -> io.BytesIO | None:
    """The same file with its elements inflated, up to `most` bytes. None for a file that is not deflated.

    The stream is left where it was. Raises Damaged where it cannot be inflated.
    """
    start = source.tell()
    head = source.read(_MOST_META)
    source.seek(start)
    end = _end_of_meta(head)
    if end is None or _DEFLATED not in head[:end]:
        return None
    source.seek(start + end)
    plain = bytearray(head[:end].replace(_DEFLATED, _PLAIN))
    inflate = zlib.decompressobj(wbits=-15)
    try:
        while len(plain) < most and not inflate.eof and (packed := inflate.unconsumed_tail or source.read(_CHUNK)):
            plain += inflate.decompress(packed, most - len(plain))
    except zlib.error:
        raise Damaged("it is damaged") from None
    source.seek(start)
    return io.BytesIO(plain)


def _end_of_meta(head: bytes) -> int | None:
    """The byte after the elements of group 2, which describe the file; None where it has none."""
    if head[_PREAMBLE - 4 : _PREAMBLE] != b"DICM" or head[_PREAMBLE : _PREAMBLE + 6] != b"\2\0\0\0UL":
        return None
    end = _PREAMBLE + 12 + int(struct.unpack_from("<I", head.ljust(_PREAMBLE + 12, b"\0"), _PREAMBLE + 8)[0])
    return end if end <= len(head) else None
