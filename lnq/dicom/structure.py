"""Check that a DICOM file's elements lie within it, because GDCM allocates any length that a damaged element claims."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lnq.dicom.deflated import inflated
from lnq.dicom.header import PREAMBLE_BYTES, is_bare
from lnq.errors import Damaged

_ELEMENT = 8  # bytes of the shortest element
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # their length takes 4 bytes, others' 2
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED = 0xFFFFFFFF  # the length of an element that a delimiter ends
_ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_TRANSFER_SYNTAX, _PIXELS = (0x0002, 0x0010), (0x7FE0, 0x0010)
_IMPLICIT_VR, _BIG_ENDIAN = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2"
_RLE = b"1.2.840.10008.1.2.5"
_COMPRESSED = (b"1.2.840.10008.1.2.4.", _RLE)  # the first is the start of all kinds of JPEG
_DEEPEST = 20  # most sequences nested in each other

Tag = tuple[int, int]


@dataclass(frozen=True)
class PixelElement:
    """The pixels of a file."""

    size: int | None  # bytes once unpacked; None for JPEG, whose decoders check this themselves
    offset: int  # byte of the file where they begin, unless they are compressed
    compressed: bool
    big_endian: bool


def find_pixels(file: io.BufferedReader, size: int) -> PixelElement:
    """Find the pixels of a file of `size` bytes, which is not deflated.

    Raises Damaged where an element runs beyond the file's end, where there are no pixels, and where these are in
    another form than the file's transfer syntax says. Raises OSError where the file cannot be read.
    """
    try:
        return _pixels(_Walk(file, size))
    except struct.error:
        raise Damaged("it is cut off") from None


@contextmanager
def open_plain(path: Path, most: int) -> Iterator[tuple[io.BufferedReader, int]]:
    """Open a file, and give its size in bytes; a deflated one is inflated, up to `most` bytes, into memory.

    Raises Damaged where it cannot be inflated, OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        plain = inflated(file, most)
        if plain is None:
            yield file, path.stat().st_size
        else:
            yield io.BufferedReader(plain), len(plain.getbuffer())  # type: ignore[type-var]  # a stream of bytes


def _pixels(walk: _Walk) -> PixelElement:
    walk.to_end()
    if walk.pixels is None:
        raise Damaged("it holds no pixels")
    compressed = walk.syntax.startswith(_COMPRESSED)
    if (walk.pixels == _UNDEFINED) != compressed:
        raise Damaged("it holds pixels in another form than it says")
    size = walk.pixels if not compressed else _rle_bytes(walk.frames()) if walk.syntax == _RLE else None
    return PixelElement(size, walk.offset, compressed, walk.syntax == _BIG_ENDIAN)


def _rle_bytes(frames: list[bytes]) -> int:
    return sum(map(_rle_frame_bytes, frames))


def _rle_frame_bytes(frame: bytes) -> int:
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
        self.offset = 0  # of the pixels in the file
        self.pixels: int | None = None  # length of the pixel data in bytes, or _UNDEFINED; None where there are none
        self._fragments: list[tuple[int, int]] = []  # offset in the file and length of each fragment of pixels

    def to_end(self) -> None:
        bare = is_bare(self._file.peek(PREAMBLE_BYTES)[:PREAMBLE_BYTES])
        self._file.seek(0 if bare else PREAMBLE_BYTES)
        while self._file.peek(2)[:2] == b"\2\0":  # group 0002 describes the file itself
            tag, _, length = self._header()
            value = self._file.read(min(length, self._left()))
            self.syntax = value.rstrip(b"\0 ") if tag == _TRANSFER_SYNTAX else self.syntax
        if not self.syntax and not self._file.peek(6)[4:6].isalpha():
            self.syntax = _IMPLICIT_VR
        self._explicit = self.syntax != _IMPLICIT_VR
        self._order = ">" if self.syntax == _BIG_ENDIAN else "<"
        while self._left() >= _ELEMENT:  # fewer bytes at the end are padding
            self._element(depth=0)

    def frames(self) -> list[bytes]:
        """The compressed frames of run lengths, a fragment each. The first fragment is a table of their offsets."""
        parts = []
        for place, length in self._fragments[1:]:
            self._file.seek(place)
            parts.append(self._file.read(length))
        return parts

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
            self.pixels, self.offset = length, self._file.tell()
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
