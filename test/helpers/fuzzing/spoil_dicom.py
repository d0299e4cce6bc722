"""Hostile elements in the files of a DICOM series, found by their bytes in explicit VR."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from helpers.fuzzing.inputs import Input, choose
from numpy.random import Generator

_PIXELS = 0x7FE0, 0x0010
_ELEMENTS = {  # tag: VR
    (0x0002, 0x0000): "UL", (0x0002, 0x0010): "UI", (0x0008, 0x0008): "CS", (0x0008, 0x0016): "UI",
    (0x0008, 0x0060): "CS", (0x0020, 0x000E): "UI", (0x0020, 0x0032): "DS", (0x0020, 0x0037): "DS",
    (0x0028, 0x0002): "US", (0x0028, 0x0004): "CS", (0x0028, 0x0010): "US", (0x0028, 0x0011): "US",
    (0x0028, 0x0030): "DS", (0x0028, 0x0100): "US", (0x0028, 0x0101): "US", (0x0028, 0x0102): "US",
    (0x0028, 0x0103): "US", (0x0028, 0x1052): "DS", (0x0028, 0x1053): "DS",
}  # fmt: skip
_ODD_VALUES = {
    "US": (0, 1, 2, 3, 8, 12, 16, 32, 63, 65, 127, 128, 255, 256, 32767, 65535),
    "UL": (0, 1, 100, 2**31, 2**32 - 1),
    "DS": (
        "", "0", "4", "0.5", "-1e30", "1e30", "1e400", "nan", "abc", "\\", "\0\0", "9" * 300, r"0\0", r"-2\-2", r"4\16",
        r"4\4\4", r"1000\1000", r"1e-9\1e-9", r"nan\nan", r"inf\inf", r"0\0\0", r"0\0\nan", r"1e30\0\0",
        r"1\0\0\0\0\1", r"1\0\0\1\0\0", r"0\0\0\0\0\0", r"-1\0\0\0\1\0", r"2\0\0\0\1\0", r"2\0\0\0\2\0",
        r"nan\0\0\0\1\0", r"1\0\0\0\1\0\0",
    ),
    "CS": ("", "MR", "SEG", r"CT\MR", "RGB", "PALETTE COLOR", "MONOCHROME1", "LOCALIZER", "\xff\xfe", "X" * 70),
    "UI": (
        "", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90", "9.9.9", "abc",
        "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.1.99", "1.2.840.10008.5.1.4.1.1.4", "1" * 300,
    ),
}  # fmt: skip
_ODD_LENGTHS = (0, 1, 2, 7, 1000, 65534, 65535, 2**31, 2**32 - 2, 2**32 - 1)
_ODD_BYTES = (b"\0", b"\1", b"\x7f", b"\xff", b"\xff\xff", b"\0\0\xff\xff", b"\x7f\xff\xff\xff")


def odd_element(made: Input, rng: Generator) -> None:
    """An element's value replaced, in all slices or in one."""
    tag, vr = choose(rng, list(_ELEMENTS.items()))
    odd = choose(rng, _ODD_VALUES[vr])
    value = odd.encode("latin-1") if isinstance(odd, str) else struct.pack({"US": "<H", "UL": "<I"}[vr], odd)
    value += b" " * (len(value) % 2)
    names = _some_slices(made, rng)
    for name in names:
        data = made.files[name]
        place = _find(data, tag, vr)
        if place < 0:
            return
        (length,) = struct.unpack_from("<H", data, place + 6)
        made.files[name] = data[: place + 6] + struct.pack("<H", len(value)) + value + data[place + 8 + length :]
    made.spoil(f"{_show(tag)} {value[:40]!r} in {len(names)} slices")


def odd_length(made: Input, rng: Generator) -> None:
    """An element's length replaced, and nothing else."""
    tag, vr = choose(rng, [*_ELEMENTS.items(), (_PIXELS, "OW"), (_PIXELS, "OW")])
    place_in_element, kind = (8, "<I") if vr == "OW" else (6, "<H")
    length = choose(rng, _ODD_LENGTHS) % (2**32 if vr == "OW" else 2**16)
    names = _some_slices(made, rng)
    for name in names:
        data = bytearray(made.files[name])
        place = _find(bytes(data), tag, vr)
        if place < 0:
            return
        struct.pack_into(kind, data, place + place_in_element, length)
        made.files[name] = bytes(data)
    made.spoil(f"{_show(tag)} of length {length} in {len(names)} slices")


def odd_pixels(made: Input, rng: Generator) -> None:
    """Pixel data that are shorter or longer, noise, or missing."""
    name = made.any_file(rng)
    data = made.files[name]
    place = _find(data, _PIXELS, "OW")
    if place < 0:
        return
    pixels, length = data[place + 12 :], data[place + 8 : place + 12]
    what = choose(rng, ("none", "half", "twice", "noise", "tag alone"))
    new = {"half": pixels[: len(pixels) // 4 * 2], "twice": pixels * 2, "noise": rng.bytes(len(pixels))}.get(what, b"")
    made.files[name] = data[:place]
    if what != "tag alone":
        length = length if length == b"\xff" * 4 else struct.pack("<I", len(new))
        made.files[name] += data[place : place + 8] + length + new
    made.spoil(f"pixels of {name}: {what}", hopeless=what in ("none", "half", "tag alone"))


def odd_codestream(made: Input, rng: Generator) -> None:
    """The first bytes of compressed pixels, which tell their size, replaced."""
    name = made.any_file(rng)
    data = bytearray(made.files[name])
    place = _find(bytes(data), _PIXELS, "OW")
    if place < 0:
        return
    told = []
    for _ in range(int(rng.integers(1, 4))):
        start = place + 20 + int(rng.integers(0, 70))
        value = choose(rng, (*_ODD_BYTES, rng.bytes(1)))
        data[start : start + len(value)] = value
        told.append(f"{value!r} at {start}")
    made.files[name] = bytes(data)
    made.spoil(f"pixels of {name}: {', '.join(told)}")


def other_slices(made: Input, rng: Generator) -> None:
    """A slice of the middle left out, or there twice, which the batch counts once."""
    if len(made.files) < 3:
        return
    name = choose(rng, sorted(made.files)[1:-1])
    if rng.random() < 0.5:
        del made.files[name]
        made.spoil(f"{name} left out", hopeless=True)
    else:
        made.files["copy.dcm"] = made.files[name]
        made.spoil(f"{name} doubled")


def _find(data: bytes, tag: tuple[int, int], vr: str) -> int:
    """Where an element begins, -1 where it is missing; compressed pixels are of OB instead of OW."""
    start = struct.pack("<HH", *tag)
    return max(data.find(start + vr.encode(), 132), data.find(start + b"OB", 132))


def _some_slices(made: Input, rng: Generator) -> list[str]:
    return sorted(made.files) if rng.random() < 0.6 else [made.any_file(rng)]


def _show(tag: tuple[int, int]) -> str:
    return "({:04x},{:04x})".format(*tag)


def bomb(made: Input, rng: Generator) -> None:
    """A few MB that unpack to 4 GB, before the elements that follow them or in their place."""
    if made.format != "dicom deflated":
        return
    name = made.any_file(rng)
    end = _end_of_meta(made.files[name])
    packer = zlib.compressobj(wbits=-15)
    rest = zlib.decompress(made.files[name][end:], -15)
    start = rest if rng.random() < 0.5 else b""
    packed = packer.compress(start + struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 2**32 - 2))
    packed += packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)  # depends on nothing before it
    made.files[name] = made.files[name][:end] + packed + zeros * 256 + packer.flush()
    made.spoil(f"4 GB of zeros in {name}, deflated", hopeless=not start)


def _end_of_meta(data: bytes) -> int:
    """Where the file's own elements end, which are never deflated."""
    return 144 + struct.unpack_from("<I", data, 140)[0]


def _inflated(way: Callable[[Input, Generator], None]) -> Callable[[Input, Generator], None]:
    """A way to spoil files by their bytes, for deflated files too."""

    def spoil(made: Input, rng: Generator) -> None:
        if made.format != "dicom deflated":
            way(made, rng)
            return
        ends = {name: _end_of_meta(data) for name, data in made.files.items()}
        for name, end in ends.items():
            made.files[name] = made.files[name][:end] + zlib.decompress(made.files[name][end:], -15)
        way(made, rng)
        for name, data in made.files.items():
            end = ends.get(name, next(iter(ends.values())))
            made.files[name] = data[:end] + zlib.compress(data[end:], wbits=-15)

    return spoil


_BY_BYTES = [*[odd_element] * 8, *[odd_length] * 4, *[odd_codestream] * 4, odd_pixels, odd_pixels, other_slices]
WAYS = [*map(_inflated, _BY_BYTES), bomb]
