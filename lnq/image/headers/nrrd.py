"""The header of an NRRD file (.nrrd, .nhdr): only what concerns its voxels and its geometry."""

import re
from pathlib import Path
from typing import BinaryIO

from lnq.errors import Damaged
from lnq.image.headers.layout import (
    BAD_HEADER,
    LONGEST_HEADER,
    NO_IMAGE,
    NO_SPACING,
    Layout,
    count_voxels,
    printable,
    voxel_file,
    whole_number,
)

_TYPES = {  # bytes of a voxel: the type's names
    1: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t",
    2: "short|short int|signed short|signed short int|int16|int16_t|"
    "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    4: "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float",
    8: "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|"
    "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t|double",
}
_TYPE_BYTES = {name: size for size, names in _TYPES.items() for name in names.split("|")}
_PACKINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
_STEP = re.compile(r"\([^)]*\)|[^\s()]+")  # a vector in brackets, which may hold spaces, or a word
_LONGEST_LINE = 500  # characters; for longer fields ITK's reader writes error texts beyond its arrays


def nrrd_layout(path: Path) -> Layout:
    """Where an NRRD file's voxels lie. Raises Damaged for another format and for values that make no image."""
    with path.open("rb") as file:
        fields = _read_header(file)
        end = file.tell()
    dimensions = whole_number(fields.get("dimension", ""), "dimension", 1)
    steps = _STEP.findall(fields.get("spacedirections", fields.get("spacings", "")).lower())
    if len([step for step in steps if "nan" not in step and step != "none"]) < min(dimensions, 3):
        raise Damaged(NO_SPACING)  # ITK would assume 1 mm
    kind = fields.get("type", "").lower()
    if kind not in _TYPE_BYTES:
        raise Damaged("its voxels are of type {kind!r}, which is not known", kind=printable(kind, 20))
    packing = _PACKINGS.get(fields.get("encoding", "").lower())
    if packing is None:
        raise Damaged("its voxels are neither raw nor packed by gzip")
    name = fields.get("datafile")
    offset = whole_number(fields.get("byteskip", "0"), "byte skip", 0)
    if fields.get("lineskip", "0") != "0" or (offset and (packing != "raw" or name is None)):
        raise Damaged("its header skips a part of its voxels")
    voxels = count_voxels(fields.get("sizes", ""), "sizes", dimensions)
    data, offset = (path, end) if name is None else (voxel_file(path, name), offset)
    return Layout("NrrdImageIO", voxels, data, offset, voxels * _TYPE_BYTES[kind], packing)


def _read_header(file: BinaryIO) -> dict[str, str]:
    """The lines `field: value` up to an empty one or the end. Spaces in a field's name do not count."""
    if not file.readline(LONGEST_HEADER).startswith(b"NRRD000"):
        raise Damaged(NO_IMAGE)
    fields: dict[str, str] = {}
    while line := file.readline(LONGEST_HEADER).decode(errors="surrogateescape").rstrip("\r\n"):
        name, colon, value = line.partition(": ")
        is_note = line.startswith("#") or ":=" in name
        name = name.lower().replace(" ", "")
        if file.tell() > LONGEST_HEADER or not (is_note or (colon and len(line) <= _LONGEST_LINE)):
            raise Damaged(BAD_HEADER)
        if name in fields:
            raise Damaged("its header gives {field} twice", field=printable(name, 20))
        if not is_note:
            fields[name] = value.strip()
    return fields
