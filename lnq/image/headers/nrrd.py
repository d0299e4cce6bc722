"""The header of an NRRD file (.nrrd, .nhdr)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from lnq.errors import Damaged
from lnq.image.headers.layout import (
    BAD_HEADER,
    BAD_SPACING,
    LONGEST_HEADER,
    NO_IMAGE,
    NO_SPACING,
    UNORIENTED,
    Layout,
    numbers,
    plain_lines,
    printable,
    voxel_file,
    whole_number,
    whole_numbers,
)

_NAMES = {  # numpy's name of a type: the header's names
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPES = {name: kind for kind, names in _NAMES.items() for name in names.split("|")}
_PACKINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "text": "text", "txt": "text", "ascii": "text"}
_SPACES = {  # how the axes of a space point to L, P, S
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1), "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
_ORDERS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}
_STEP = re.compile(r"\([^)]*\)|[^\s()]+")  # a vector in brackets, which may hold spaces, or a word


def nrrd_layout(path: Path) -> Layout:
    """The layout of an NRRD file. Raises Damaged for another format and for values that make no image."""
    with path.open("rb") as file:
        fields = _read_header(file)
        end = file.tell()
    dimensions = whole_number(fields.get("dimension", ""), "dimension", 1)
    kind = fields.get("type", "").lower()
    if kind not in _TYPES:
        raise Damaged("its voxels are of type {kind!r}, which is not known", kind=printable(kind, 20))
    packing = _PACKINGS.get(fields.get("encoding", "").lower())
    if packing is None:
        raise Damaged("its voxels are neither raw nor text nor packed by gzip")
    name = fields.get("datafile")
    offset = whole_number(fields.get("byteskip", "0"), "byte skip", 0)
    if fields.get("lineskip", "0") != "0" or (offset and (packing != "raw" or name is None)):
        raise Damaged("its header skips a part of its voxels")
    order = _ORDERS.get(fields.get("endian", "").lower())
    dtype = np.dtype(_TYPES[kind])
    if order is None and dtype.itemsize > 1 and packing != "text":
        raise Damaged("its header does not give the order of its bytes")
    affine, oriented = _geometry(fields, dimensions)
    sizes = whole_numbers(fields.get("sizes", ""), "sizes", dimensions)
    channels = sizes[0] if dimensions == 4 and _is_vector(fields) else 1
    data, offset = (path, end) if name is None else (voxel_file(path, name), offset)
    return Layout(
        data,
        offset,
        dtype.newbyteorder(order or "<"),
        sizes[1:] if channels > 1 else sizes,
        affine,
        packing,
        channels=channels,
        warnings=() if oriented else (UNORIENTED,),
        oriented=oriented,
    )


def _is_vector(fields: dict[str, str]) -> bool:
    """Whether the first axis goes over the values of a voxel."""
    kinds = fields.get("kinds", "").lower().split()
    return bool(kinds) and kinds[0] not in ("domain", "space", "time", "list", "none", "???")


def _geometry(fields: dict[str, str], dimensions: int) -> tuple[np.ndarray, bool]:
    """The affine [3, 4] of index (x, y, z) to LPS mm, and whether left and right are known.

    Raises Damaged where something would have to be invented.
    """
    directions = fields.get("spacedirections")
    steps = _STEP.findall((fields.get("spacings", "") if directions is None else directions).lower())
    given = [step for step in steps if "nan" not in step and step != "none"]
    if len(given) < min(dimensions, 3):
        raise Damaged(NO_SPACING)
    if dimensions != 3:
        return np.eye(3, 4), True
    if directions is None:
        spacing = numbers(" ".join(given), "spacings", 3)
        if not (spacing > 0).all():
            raise Damaged(BAD_SPACING)
        return np.c_[np.diag(spacing), _minimum(fields, spacing)], False
    columns = [_vector(step, "space directions") for step in given]
    origin = _vector(fields["spaceorigin"], "space origin") if "spaceorigin" in fields else np.zeros(3)
    space = _SPACES.get(fields.get("space", "").lower())
    signs = np.array(space or (1, 1, 1), float)
    if not all(np.linalg.norm(column) > 0 for column in columns):
        raise Damaged(BAD_SPACING)
    return signs[:, None] * np.stack([*columns, origin], axis=1), space is not None


def _minimum(fields: dict[str, str], spacing: np.ndarray) -> np.ndarray:
    """The centre of the first voxel along each axis, from where the axes begin. As in ITK, a voxel is a cell if the
    header does not say otherwise.
    """
    if "axismins" not in fields:
        return np.zeros(3)
    lowest = numbers(fields["axismins"], "axis mins", 3)
    kinds = fields.get("centers", fields.get("centerings", "")).lower().split() or ["cell"] * 3
    return lowest + np.where([kind == "node" for kind in kinds], 0.0, spacing / 2)


def _vector(text: str, field: str) -> np.ndarray:
    return numbers(text.strip("() ").replace(",", " "), field, 3)


def _read_header(file: BinaryIO) -> dict[str, str]:
    """The lines `field: value` up to an empty one or the end. Spaces in a field's name do not count."""
    if not file.readline(LONGEST_HEADER).startswith(b"NRRD000"):
        raise Damaged(NO_IMAGE)
    fields: dict[str, str] = {}
    while (line := file.readline(LONGEST_HEADER)).strip(b"\r\n"):
        (plain,) = plain_lines(line.removesuffix(b"\n"))
        name, colon, value = plain.partition(b": ")
        is_note = plain.startswith(b"#") or b":=" in name
        if file.tell() > LONGEST_HEADER or not (is_note or (colon and re.fullmatch(rb"[A-Za-z][A-Za-z0-9 ]*", name))):
            raise Damaged(BAD_HEADER)
        if is_note:
            continue
        field = name.decode("ascii").lower().replace(" ", "")
        if field in fields:
            raise Damaged("its header gives {field} twice", field=printable(field, 20))
        fields[field] = value.strip(b" \t").decode(errors="surrogateescape")
    return fields
