"""Hostile values in the headers of MetaImage and NRRD files, which are lines of text."""

from __future__ import annotations

import gzip
import re
import zlib

from helpers.fuzzing.inputs import Input, choose
from numpy.random import Generator

_ODD_NUMBERS = (
    b"0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e400", b"1e-40", b"1e5", b"100000", b"2147483647", b"-2147483648",
    b"4294967297", b"9223372036854775807", b"18446744073709551617", b"0x10", b"abc", b"", b"%n%s", b"1;2", b"7" * 400,
)  # fmt: skip
_ODD_PATHS = (  # of files that are not the case's, or of none
    "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "../outside.raw", "../../../../../../etc/passwd",
    "sub/../../outside.raw", "{outside}", "LIST", "LIST 2\n../outside.raw", "%d.raw 1 8 1", "../outside.raw 0 1 1",
    "../%s.raw", "pipe", "..", ".", "", "x" * 5000, "é" * 200, "\0", "a\x1b[31m.raw", "http://127.0.0.1/x.raw",
)  # fmt: skip
_ODD_SIZES = (
    "100000 100000 100000", "128 128 80000", "127 128 8", "128 127 8", "128 128 9", "128 128 7", "128 128", "1 1 1",
    "128 128 8 1", "128 128 4 2", "65536 65536 65536", "4294967296 4294967296 1", "-128 -128 8", "131072 1 1",
    "2147483647 2 2", "46341 46341 1", "1 131072 1", "128 128 0", "3037000500 3037000500 2",
)  # fmt: skip
_META_LINES = (
    "HeaderSize = -1", "HeaderSize = 100", "HeaderSize = -5", "HeaderSize = 2147483647", "BinaryData = False",
    "ElementNumberOfChannels = 3", "ElementNumberOfChannels = 0", "ElementNumberOfChannels = -1", "ElementNBits = 8",
    "CompressedData = True", "CompressedDataSize = -1", "CompressedDataSize = 99999999999999", "NDims = 99999",
    "CompressedDataSize = 10", "NDims = 4", "SequenceID = 1 2 3 4", "ElementSize = 0 0 0", "Rotation = 1 2 3",
    "ElementToIntensityFunctionSlope = 2", "ElementToIntensityFunctionOffset = -1024", "ImagePosition = nan 0 0",
    "AnatomicalOrientation = XYZ", "Modality = MET_MOD_MR",
)  # fmt: skip
_NRRD_LINES = (
    "byte skip: -1", "byte skip: 100", "byte skip: -2", "line skip: 3", "line skip: 9999999", "encoding: ascii",
    "encoding: hex", "encoding: bzip2", "block size: 2", "type: block", "kinds: RGB-color domain domain", "old min: 0",
    "thicknesses: 1 1 1", "axis mins: 0 0 0", "axis maxs: 1 1 1", "centers: cell cell cell", "spacings: 0 0 0",
    "measurement frame: (1,0,0) (0,1,0) (0,0,1)", "units: m m m", 'space units: "m" "m" "m"', "space: scanner-xyz",
    "space dimension: 2", "sizes: 8 128 128 1", "datafile: ct.nhdr", "data file: ct.nrrd",
)  # fmt: skip


def odd_value(made: Input, rng: Generator) -> None:
    """A field's value, or one number of it, replaced."""
    lines, i, voxels = _any_line(made, rng)
    key, sign, value = re.fullmatch(rb"([^=:]*)([=:] ?)(.*)", lines[i], re.DOTALL).groups()
    numbers = re.findall(rb"[-+.\w]+", value)
    if rng.random() < 0.7 and numbers:
        old = choose(rng, numbers)
        new = choose(rng, (*_ODD_NUMBERS, *_changes(old)))
        value = value.replace(old, new, choose(rng, (1, -1)))
    else:
        value = b" ".join(choose(rng, _ODD_NUMBERS) for _ in range(choose(rng, (1, 2, 3, 4, 9, 12)))) + b"\n"
    lines[i] = key + sign + value
    made.files[made.ct] = b"".join(lines) + voxels
    made.spoil(f"line {lines[i][:80]!r}")


def odd_line(made: Input, rng: Generator) -> None:
    """A line left out, doubled, moved, endless, or with bytes that belong to no text."""
    lines, i, voxels = _any_line(made, rng)
    line = lines[i]
    what = choose(rng, ("left out", "doubled", "contradicted", "moved", "long", "many", "odd bytes", "no end"))
    if what == "left out":
        del lines[i]
    elif what == "doubled":
        lines.insert(i, line)
    elif what == "contradicted":
        lines.insert(i + choose(rng, (0, 1)), re.sub(rb"\d+", b"7", line))
    elif what == "moved":
        lines.insert(int(rng.integers(len(lines))), lines.pop(i))
    elif what == "long":
        size = choose(rng, (300, 600, 1000, 5000, 70_000, 1_000_000))
        lines.insert(i, choose(rng, (b"Comment = ", b"", b"key:=", b"# ", b"content: ")) + b"y" * size + b"\n")
    elif what == "many":
        lines[i:i] = [b"Comment%d = 1\n" % n for n in range(choose(rng, (150, 300, 20_000)))]
    elif what == "odd bytes":
        odd = choose(rng, (b"\0", b"\xff\xfe", b"\r", b"\n\n", b"\x1b[2J", "µ".encode()))
        lines[i] = line[:5] + odd + line[5:]
    else:
        lines[i] = line.rstrip(b"\n")
    made.files[made.ct] = b"".join(lines) + voxels
    made.spoil(f"line {line[:60]!r} {what}")


def odd_path(made: Input, rng: Generator) -> None:
    """A header that names other files as its voxels'."""
    path = choose(rng, _ODD_PATHS)
    header, voxels = _split(made)
    if path == "pipe":
        made.pipes.append("pipe")
    if made.ct.endswith(("mha", "mhd")):
        header = re.sub(rb"ElementDataFile = .*\n", lambda _: f"ElementDataFile = {path}\n".encode(), header)
        header = header if rng.random() < 0.5 else re.sub(rb"CompressedData.*\n", b"", header)
    else:
        header = re.sub(rb"data file: .*\n", b"", header).rstrip(b"\n") + f"\ndata file: {path}\n\n".encode()
        header = header if rng.random() < 0.5 else header.replace(b"encoding: gzip", b"encoding: raw")
    made.files[made.ct] = header + voxels
    made.spoil(f"voxel file {path[:60]!r}", hopeless=True)


def odd_sizes(made: Input, rng: Generator) -> None:
    """Sizes that do not fit the voxels."""
    sizes = choose(rng, _ODD_SIZES)
    header, voxels = _split(made)
    made.files[made.ct] = re.sub(rb"(DimSize = |sizes: ).*", rb"\g<1>" + sizes.encode(), header) + voxels
    made.spoil(f"sizes {sizes}", hopeless=True)


def added_line(made: Input, rng: Generator) -> None:
    """A field that is seldom used."""
    header, voxels = _split(made)
    lines = header.splitlines(keepends=True)
    line = choose(rng, _META_LINES if made.ct.endswith(("mha", "mhd")) else _NRRD_LINES)
    lines.insert(int(rng.integers(1, len(lines))), line.encode() + b"\n")
    made.files[made.ct] = b"".join(lines) + voxels
    made.spoil(f"line {line!r} added")


def bomb(made: Input, rng: Generator) -> None:
    """A few MB that unpack to 8 GB."""
    zeros = bytes(2**24)
    if made.format in ("mha zlib", "nrrd gzip"):
        packed = zlib.compress(zeros) if made.format == "mha zlib" else gzip.compress(zeros)
        made.files[made.ct] = _split(made)[0] + packed * 512
    elif made.format in ("mhd zraw", "nhdr gzip"):
        name = next(name for name in made.files if name != made.ct)
        made.files[name] = (zlib.compress(zeros) if name.endswith(".zraw") else gzip.compress(zeros)) * 512
    else:
        return
    made.spoil("8 GB of zeros, compressed", hopeless=True)


def _changes(number: bytes) -> list[bytes]:
    """Other values near a number's; none for a word."""
    if not re.fullmatch(rb"-?\d+(\.\d+)?", number):
        return []
    value = float(number)
    return [b"%g" % v for v in (value + 1, value - 1, value * 2, value / 2, -value)] * 2


def _split(made: Input) -> tuple[bytes, bytes]:
    """The header, and the voxels that follow it in the same file."""
    data = made.files[made.ct]
    place = data.find(b"\n\n" if made.ct.endswith(("nrrd", "nhdr")) else b"ElementDataFile")
    place = data.index(b"\n", place + 1) + 1 if place >= 0 else len(data)
    return data[:place], data[place:]


def _any_line(made: Input, rng: Generator) -> tuple[list[bytes], int, bytes]:
    header, voxels = _split(made)
    lines = header.splitlines(keepends=True)
    return lines, choose(rng, [i for i, line in enumerate(lines) if re.search(rb"[=:]", line)]), voxels


WAYS = [odd_value, odd_value, odd_value, odd_line, odd_line, odd_path, odd_path, odd_sizes, added_line, bomb]
