"""The header of a MetaImage file (.mha, .mhd)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lnq.errors import Damaged
from lnq.image.headers.layout import (
    BAD_HEADER,
    BAD_SPACING,
    LONGEST_HEADER,
    NO_IMAGE,
    NO_ROTATION,
    NO_SPACING,
    Layout,
    check_count,
    numbers,
    plain_lines,
    printable,
    voxel_file,
    whole_number,
    whole_numbers,
)

_TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4", "ULONG": "u4",
    "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip
_SPACINGS = ("ElementSpacing", "ElementSize")
_ORIGINS = ("Offset", "Position", "Origin", "ImagePosition")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
# Fields that would change the values or their places. They must have these values.
_FIXED = {"ElementToIntensityFunctionSlope": 1.0, "ElementToIntensityFunctionOffset": 0.0}
_ROTATION_TOLERANCE = 1e-3  # largest dot product error of the axes; headers with 4 decimals pass
_MOST_DIMENSIONS = 10
_MOST_LINES = 1000
_KEY = re.compile(rb"[\x21-\x7e][\x20-\x7e]{0,199}")  # printable: writers add keys such as NRRD_kinds[0] and 0008|0060
_TRUE = ("T", "t", "1")  # a MetaImage flag is true where its value begins with one of these


def metaimage_layout(path: Path) -> Layout:
    """The layout of a MetaImage. Raises Damaged for another format and for values that make no image."""
    with path.open("rb") as file:
        header, end = _read_header(file)
    dimensions = whole_number(header.get("NDims", ""), "NDims", 1)
    if dimensions > _MOST_DIMENSIONS:
        raise Damaged("its header claims {dimensions} dimensions", dimensions=dimensions)
    affine = _geometry(header, dimensions)
    kind = header.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise Damaged("its voxels are of type {kind!r}, which is not known", kind=printable(kind, 20))
    big_endian = any(_is_true(header, flag) for flag in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    dtype = np.dtype((">" if big_endian else "<") + _TYPES[kind])
    sizes = whole_numbers(header.get("DimSize", ""), "DimSize", dimensions)
    channels = whole_number(header.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels", 1)
    name = header["ElementDataFile"]
    is_local = name in ("LOCAL", "Local", "local")
    data = path if is_local else voxel_file(path, name)
    offset = whole_number(header.get("HeaderSize", "0"), "HeaderSize", 0) or (end if is_local else 0)
    packing = "raw" if "BinaryData" not in header or _is_true(header, "BinaryData") else "text"
    if _is_true(header, "CompressedData"):
        packing = "zlib"
        if "CompressedDataSize" not in header:
            raise Damaged("its compressed voxels come without their CompressedDataSize")
        packed = whole_number(header["CompressedDataSize"], "CompressedDataSize", 1)
        check_count(data.stat().st_size - offset, packed)
    return Layout(data, offset, dtype, sizes, affine, packing, channels=channels)


def _is_true(header: dict[str, str], flag: str) -> bool:
    return header.get(flag, "").startswith(_TRUE)


def _geometry(header: dict[str, str], dimensions: int) -> np.ndarray:
    """The affine [3, 4] of index (x, y, z) to LPS mm. Raises Damaged where something would have to be invented."""
    spacing = _one_of(header, _SPACINGS, dimensions)
    if spacing is None:
        raise Damaged(NO_SPACING)
    origin, matrix = _one_of(header, _ORIGINS, dimensions), _one_of(header, _MATRICES, dimensions**2)
    for field, value in _FIXED.items():
        if field in header and numbers(header[field], field, 1)[0] != value:
            raise Damaged("its header scales its voxel values, which is not supported")
    if dimensions != 3:
        return np.eye(3, 4)
    if not (spacing > 0).all():
        raise Damaged(BAD_SPACING)
    direction = np.eye(3) if matrix is None else matrix.reshape(3, 3).T  # the file gives axis after axis
    if not np.abs(direction.T @ direction - np.eye(3)).max() < _ROTATION_TOLERANCE:
        raise Damaged(NO_ROTATION)
    return np.c_[direction * spacing, np.zeros(3) if origin is None else origin]


def _one_of(header: dict[str, str], fields: tuple[str, ...], count: int) -> np.ndarray | None:
    """The numbers of whichever of some fields that mean the same is given. Raises Damaged where they differ."""
    given = {field: numbers(header[field], field, count) for field in fields if field in header}
    values = list(given.values())
    if any((value != values[0]).any() for value in values[1:]):
        raise Damaged("its header gives different {fields}", fields=printable(" and ".join(given), 60))
    return values[0] if values else None


def _read_header(file: BinaryIO) -> tuple[dict[str, str], int]:
    """The lines `key = value` or `key: value` up to ElementDataFile, the last one, and the byte after it."""
    header: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        line = file.readline(LONGEST_HEADER)
        bare = line.strip(b" \t\r\n")
        if line and not bare:
            continue
        parts = re.split(b"[=:]", bare, maxsplit=1)
        key = parts[0].rstrip(b" \t")
        if len(parts) < 2 or not _KEY.fullmatch(key):
            break
        plain_lines(line.removesuffix(b"\n"))
        name = key.decode("ascii")
        if name in header:
            raise Damaged("its header gives {field} twice", field=printable(name, 20))
        header[name] = parts[1].lstrip(b"=: \t").decode(errors="surrogateescape")
        if name == "ElementDataFile":
            return header, file.tell()
    raise Damaged(BAD_HEADER if {"ObjectType", "NDims", "DimSize"} & header.keys() else NO_IMAGE)
