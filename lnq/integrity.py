"""Is an image file complete? ITK reads truncated NIfTI and damaged compressed MetaImage files as garbage.

Both formats say in their header how many bytes of voxels follow, so the bytes are counted (and, where
compressed, their check sum tested) before ITK sees the file. ITK itself counts NRRD and plain MetaImage. Where a
header gives no voxel spacing, ITK takes 1 mm without a word: that is refused too.
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

_CHUNK = 1 << 20  # bytes read at a time, so that a check costs no memory
_LONGEST_LINE = 1 << 16  # of a header
_MOST_DIMENSIONS = 10  # ITK's MetaImage reader writes beyond its arrays with more
_NO_SPACING = "its header gives no voxel spacing"
_NRRD_STEP = re.compile(r"\([^)]*\)|[^\s()]+")  # a vector, which may hold blanks, or a word
_META_TYPE_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}


def damage(path: Path) -> str | None:
    """What is wrong with the file's bytes, as the end of a sentence ("it is truncated ..."), or None."""
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _nifti_damage(path)
        if name.endswith((".mha", ".mhd")):
            return _meta_damage(path)
        if name.endswith((".nrrd", ".nhdr")):
            return _nrrd_damage(path)
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error, ValueError, OverflowError):
        return "it is truncated or damaged"
    return None


def _nifti_damage(path: Path) -> str | None:
    with _open_maybe_gzip(path) as file:
        header = file.read(348)
        order = _nifti_byte_order(header)
        if order is None:
            return None  # no NIfTI-1 header: ITK gives its own verdict
        dims = struct.unpack(order + "8h", header[40:56])
        (bits,) = struct.unpack(order + "h", header[72:74])
        (offset,) = struct.unpack(order + "f", header[108:112])
        pixdim = struct.unpack(order + "8f", header[76:108])
        scale = struct.unpack(order + "2f", header[112:120])
        if not all(math.isfinite(size) and size != 0 for size in pixdim[1 : min(dims[0], 3) + 1]):
            return "its voxel spacing is zero or not a number"  # ITK would take 1 mm instead
        if any(map(math.isinf, scale)):  # NaN stands for none in some writers' files
            return "its voxel values are scaled by infinity"
        if header[344:347] == b"ni1":  # header and voxels in two files
            return None
        skewed = _nifti_skew(header, order)
        if skewed:
            return skewed
        expected = int(offset) + math.prod(max(1, n) for n in dims[1 : dims[0] + 1]) * bits // 8
        found = len(header) + _count(file)  # reads gzip to its end, where its check sum is tested
    return _shortage(expected, found)


def _nifti_byte_order(header: bytes) -> str | None:
    for order in "<>":
        if len(header) == 348 and struct.unpack(order + "i", header[:4])[0] == 348:
            return order
    return None


def _nifti_skew(header: bytes, order: str) -> str | None:
    """ITK bends a sheared sform to the nearest rotation, with a warning only; nodes would land elsewhere."""
    qform_code, sform_code = struct.unpack(order + "2h", header[252:256])
    if sform_code == 0 or (qform_code > 0 and sform_code != 1):
        return None
    sform = np.array(struct.unpack(order + "12f", header[280:328])).reshape(3, 4)[:, :3]
    length = np.linalg.norm(sform, axis=0)
    if not np.isfinite(length).all() or (length == 0).any():
        return "its orientation matrix is no rotation"
    cosines = (sform / length).T @ (sform / length)
    return "its orientation matrix is no rotation" if np.abs(cosines - np.eye(3)).max() > 1e-3 else None


def _meta_damage(path: Path) -> str | None:
    with path.open("rb") as file:
        header = _meta_header(file)
        if int(header.get("NDims", "3")) > _MOST_DIMENSIONS:
            return f"its header claims {header['NDims']} dimensions"
        if "DimSize" in header and not {"ElementSpacing", "ElementSize"} & header.keys():
            return _NO_SPACING  # ITK would take 1 mm
        if header.get("CompressedData", "False").lower() != "true" or "DimSize" not in header:
            return None
        if "CompressedDataSize" not in header:
            return "its compressed voxels come without their CompressedDataSize"
        data = header.get("ElementDataFile", "")
        if data.upper() == "LOCAL":
            return _zlib_damage(file, header)
    if not (path.parent / data).is_file():
        return f"its voxel file {data} is missing"
    with (path.parent / data).open("rb") as file:
        return _zlib_damage(file, header)


def _nrrd_damage(path: Path) -> str | None:
    """ITK takes 1 mm where a header gives no spacing. It counts the voxels itself."""
    with path.open("rb") as file:
        fields = {}
        for _ in range(200):
            line = file.readline(_LONGEST_LINE).decode("latin-1").strip()
            if not line:
                break
            name, colon, value = line.partition(": ")
            if colon and not line.startswith("#"):
                fields[name.lower()] = value.strip().lower()
    if "dimension" not in fields:
        return None  # no NRRD header: ITK gives its own verdict
    steps = fields.get("space directions", fields.get("spacings", ""))
    given = [step for step in _NRRD_STEP.findall(steps) if "nan" not in step and step != "none"]
    return None if len(given) >= min(int(fields["dimension"]), 3) else _NO_SPACING


def _meta_header(file: BinaryIO) -> dict[str, str]:
    """Lines `key = value` or `key: value` up to ElementDataFile, the last one; the file then stands at its voxels."""
    header: dict[str, str] = {}
    for _ in range(200):
        line = file.readline(_LONGEST_LINE).decode("latin-1")
        if line and not line.strip():
            continue
        parts = re.split("[=:]", line, maxsplit=1)
        if len(parts) < 2:
            break
        key, value = (part.strip() for part in parts)
        header[key] = value
        if key == "ElementDataFile":
            break
    return header


def _zlib_damage(file: BinaryIO, header: dict[str, str]) -> str | None:
    kind = header.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY").removeprefix("U")
    channels = int(header.get("ElementNumberOfChannels", "1"))
    voxels = math.prod(int(n) for n in header["DimSize"].split())
    inflate = zlib.decompressobj(wbits=47)  # zlib or gzip framing
    found = 0
    for chunk in _chunks(file):
        found += len(inflate.decompress(chunk))
        if inflate.eof:
            break
    if not inflate.eof:
        return "it is truncated: its compressed voxels stop before their end"
    return _shortage(voxels * channels * _META_TYPE_BYTES.get(kind, 1), found)


def _shortage(expected: int, found: int) -> str | None:
    return f"it is truncated: {found:,} of {expected:,} bytes are there" if found < expected else None


def _open_maybe_gzip(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")  # type: ignore[return-value]


def _count(file: BinaryIO) -> int:
    return sum(len(chunk) for chunk in _chunks(file))


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
