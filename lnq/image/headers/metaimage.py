"""The header of a MetaImage file (.mha, .mhd): only what concerns its voxels and its geometry."""

import re
from pathlib import Path
from typing import BinaryIO

from lnq.errors import Damaged
from lnq.image.headers.layout import (
    BAD_HEADER,
    NO_IMAGE,
    NO_SPACING,
    Layout,
    check_count,
    check_numbers,
    count_voxels,
    printable,
    voxel_file,
    whole_number,
)

_TYPE_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_VECTORS = ("ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "ImagePosition", "CenterOfRotation")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
# ITK ignores these fields, so they must have these values.
_SCALE = {"ElementToIntensityFunctionSlope": 1.0, "ElementToIntensityFunctionOffset": 0.0}
_MOST_DIMENSIONS = 10  # with more, ITK's reader writes beyond its arrays
_MOST_LINES = 1000  # ITK takes 32 kB of memory for each line
_LONGEST_LINE = 499  # characters; ITK stops reading at longer lines
_LONGEST_KEY = 100  # characters; ITK's array holds 255
_TRUE = ("T", "t", "1")  # A MetaImage flag is true where its value begins with one of these.


def metaimage_layout(path: Path) -> Layout:
    """Where a MetaImage's voxels lie. Raises Damaged for another format and for values that make no image."""
    with path.open("rb") as file:
        header, end = _read_header(file)
    dimensions = whole_number(header.get("NDims", ""), "NDims", 1)
    if dimensions > _MOST_DIMENSIONS:
        raise Damaged("its header claims {dimensions} dimensions", dimensions=dimensions)
    _check_geometry(header, dimensions)
    if not header.get("BinaryData", "").startswith(_TRUE):
        raise Damaged("its voxels are written as text")
    kind = header.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY").removeprefix("U")
    if kind not in _TYPE_BYTES:
        raise Damaged("its voxels are of type {kind!r}, which is not known", kind=printable(kind, 20))
    voxels = count_voxels(header.get("DimSize", ""), "DimSize", dimensions)
    channels = whole_number(header.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels", 1)
    size = voxels * channels * _TYPE_BYTES[kind]
    name = header["ElementDataFile"]
    is_local = name in ("LOCAL", "Local", "local")
    data = path if is_local else voxel_file(path, name)
    offset = whole_number(header.get("HeaderSize", "0"), "HeaderSize", 0) or (end if is_local else 0)
    if not header.get("CompressedData", "").startswith(_TRUE):
        return Layout("MetaImageIO", voxels, data, offset, size)
    if "CompressedDataSize" not in header:
        raise Damaged("its compressed voxels come without their CompressedDataSize")
    packed = whole_number(header["CompressedDataSize"], "CompressedDataSize", 1)
    check_count(data.stat().st_size - offset, packed)
    return Layout("MetaImageIO", voxels, data, offset, size, "zlib")


def _check_geometry(header: dict[str, str], dimensions: int) -> None:
    """Raise Damaged where ITK would invent: it takes 1 mm for a missing spacing, and 0 for an unreadable position."""
    if not {"ElementSpacing", "ElementSize"} & header.keys():
        raise Damaged(NO_SPACING)
    for fields, count in ((_VECTORS, dimensions), (_MATRICES, dimensions**2), (_SCALE, 1)):
        for field in header.keys() & set(fields):
            check_numbers(header[field], field, count)
    if any(float(header.get(field, none)) != none for field, none in _SCALE.items()):
        raise Damaged("its header scales its voxel values, which is not supported")


def _read_header(file: BinaryIO) -> tuple[dict[str, str], int]:
    """The lines `key = value` or `key: value` up to ElementDataFile, the last one, and the byte after it."""
    header: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        line = file.readline(_LONGEST_LINE)
        text = line.decode(errors="surrogateescape").strip()
        if line and not text:
            continue
        parts = re.split("[=:]", text, maxsplit=1)
        key = parts[0].strip()
        if len(parts) < 2 or len(key) > _LONGEST_KEY or (len(line) == _LONGEST_LINE and line[-1:] != b"\n"):
            break
        if key in header:
            raise Damaged("its header gives {field} twice", field=printable(key, 20))
        header[key] = parts[1].lstrip("=: \t")
        if key == "ElementDataFile":
            return header, file.tell()
    raise Damaged(BAD_HEADER if {"ObjectType", "NDims", "DimSize"} & header.keys() else NO_IMAGE)
