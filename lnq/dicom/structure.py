"""Check that a DICOM file's elements lie within it, because GDCM allocates any length that a damaged element claims."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from pathlib import Path

from lnq.dicom.header import PREAMBLE_BYTES
from lnq.errors import Damaged

_ELEMENT = 8  # bytes of the shortest element
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # their length takes 4 bytes, others' 2
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED = 0xFFFFFFFF  # the length of an element that a delimiter ends
_ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_TRANSFER_SYNTAX, _PIXELS = (0x0002, 0x0010), (0x7FE0, 0x0010)
_IMPLICIT_VR, _BIG_ENDIAN, _DEFLATED = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"
_RLE = b"1.2.840.10008.1.2.5"
_COMPRESSED = (b"1.2.840.10008.1.2.4.", _RLE)  # the first is the start of all kinds of JPEG
_DEEPEST = 20  # most sequences nested in each other

Tag = tuple[int, int]


def pixel_bytes(path: Path) -> int | None:
    """Bytes of a file's pixels once unpacked; None for JPEG, whose decoders check this themselves.

    Raises Damaged where an element runs beyond the file's end, where there are no pixels, where these are in another
    form than the file's transfer syntax says, and for a deflated file. Raises OSError where the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _pixel_bytes(_Walk(file, path.stat().st_size))
    except struct.error:
        raise Damaged("it is cut off") from None


def _pixel_bytes(walk: _Walk) -> int | None:
    walk.to_end()
    if walk.pixels is None:
        raise Damaged("it holds no pixels")
    if (walk.pixels == _UNDEFINED) != walk.syntax.startswith(_COMPRESSED):
        raise Damaged("it holds pixels in another form than it says")
    if walk.syntax == _RLE:
        return _rle_bytes(walk.frame())
    return None if walk.pixels == _UNDEFINED else walk.pixels


def _rle_bytes(frame: bytes) -> int:
    """Bytes that a frame of run lengths unpacks to (PS3.5, annex G). Raises Damaged for impossible offsets."""
    count, *offsets = struct.unpack("<16I", frame[:64])
    if not 1 <= count <= len(offsets) or sorted({64, *offsets[:count]}) != offsets[:count]:
        raise Damaged("it holds damaged pixels")
    return sum(_segment_bytes(frame[a:b]) for a, b in pairwise([*offsets[:count], len(frame)]))


def _segment_bytes(segment: bytes) -> int:
    place = found = 0
    while place < len(segment) - 1:
        control = segment[place]
        if control < 128:  # `control` + 1 bytes follow as they are
            found += min(control + 1, len(segment) - place - 1)
            place += control + 2
        else:  # one byte follows that is repeated; 128 alone means nothing
            found += 257 - control if control > 128 else 0
            place += 2 if control > 128 else 1
    return found


class _Walk:
    """Walks through a file from element to element. It enters sequences and skips values."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file = file
        self._size = size
        self._order = "<"
        self._explicit = True
        self.syntax = b""
        self.pixels: int | None = None  # length of the pixel data in bytes, or _UNDEFINED; None where there are none
        self._fragments: list[tuple[int, int]] = []  # offset in the file and length of each fragment of pixels

    def to_end(self) -> None:
        self._file.seek(PREAMBLE_BYTES)
        while self._file.peek(2)[:2] == b"\2\0":  # group 0002 describes the file itself
            tag, _, length = self._header()
            value = self._file.read(min(length, self._left()))
            self.syntax = value.rstrip(b"\0 ") if tag == _TRANSFER_SYNTAX else self.syntax
        if not self.syntax:
            raise Damaged("it does not say how it is written")
        if self.syntax == _DEFLATED:
            raise Damaged("it is deflated, which is not supported")
        self._explicit = self.syntax != _IMPLICIT_VR
        self._order = ">" if self.syntax == _BIG_ENDIAN else "<"
        while self._left() >= _ELEMENT:  # fewer bytes at the end are padding
            self._element(depth=0)

    def frame(self) -> bytes:
        """The compressed pixels. The first fragment is a table of the frames' offsets, so it is left out."""
        parts = []
        for place, length in self._fragments[1:]:
            self._file.seek(place)
            parts.append(self._file.read(length))
        return b"".join(parts)

    def _left(self) -> int:
        return self._size - self._file.tell()

    def _header(self) -> tuple[Tag, bytes, int]:
        """Read the next element's tag, VR (blank where there is none) and length in bytes."""
        group, number = struct.unpack(self._order + "HH", self._file.read(4))
        vr = self._file.read(2)
        if group == 0xFFFE or not self._explicit or not vr.isalpha():
            (length,) = struct.unpack(self._order + "I", vr + self._file.read(2))
            vr = b""
        elif vr in _LONG_VRS:
            (length,) = struct.unpack(self._order + "2xI", self._file.read(6))
        elif vr in _SHORT_VRS:
            (length,) = struct.unpack(self._order + "H", self._file.read(2))
        else:
            raise Damaged("it is damaged")
        if length != _UNDEFINED and length > self._left():
            raise Damaged("it is cut off or damaged")
        return (group, number), vr, length

    def _element(self, depth: int) -> Tag:
        tag, vr, length = self._header()
        if depth > _DEEPEST or (depth == 0 and tag[0] == 0xFFFE):  # FFFE delimits items, and none is open here
            raise Damaged("it is damaged")
        if tag == _PIXELS and depth == 0:
            self.pixels = length
        if vr == b"SQ" or length == _UNDEFINED:
            self._items(length, depth, fragments=tag == _PIXELS, explicit=self._explicit and vr != b"UN")
        else:
            self._file.seek(length, 1)
        return tag

    def _items(self, length: int, depth: int, fragments: bool, explicit: bool) -> None:
        """Walk past a sequence's items, or past the fragments of compressed pixels.

        `explicit` says whether the items' elements have VRs. Those of a sequence with VR UN have none.
        """
        end = self._size if length == _UNDEFINED else self._file.tell() + length
        outside, self._explicit = self._explicit, explicit
        while self._file.tell() < end or length == _UNDEFINED:
            tag, _, item = self._header()
            if tag == _SEQUENCE_END:
                break
            if fragments:
                self._fragments.append((self._file.tell(), item))
                self._file.seek(item, 1)
                continue
            item_end = end if item == _UNDEFINED else self._file.tell() + item
            while self._file.tell() < item_end and self._element(depth + 1) != _ITEM_END:
                pass
        self._explicit = outside
