"""Hostile values in the header of NIfTI files, which is binary."""

from __future__ import annotations

import gzip
import struct

from helpers.fuzzing.inputs import Input, choose
from numpy.random import Generator

_FIELDS = {  # offset and format
    "sizeof_hdr": (0, "i"), "dim0": (40, "h"), "dim1": (42, "h"), "dim2": (44, "h"), "dim3": (46, "h"),
    "dim4": (48, "h"), "intent_code": (68, "h"), "datatype": (70, "h"), "bitpix": (72, "h"), "qfac": (76, "f"),
    "pixdim1": (80, "f"), "pixdim2": (84, "f"), "pixdim3": (88, "f"), "vox_offset": (108, "f"),
    "scl_slope": (112, "f"), "scl_inter": (116, "f"), "xyzt_units": (123, "b"), "qform_code": (252, "h"),
    "sform_code": (254, "h"), "quatern_b": (256, "f"), "quatern_c": (260, "f"), "quatern_d": (264, "f"),
    "qoffset_x": (268, "f"), "magic": (344, "i"), "extension": (348, "i"),
} | {f"srow{i}": (280 + 4 * i, "f") for i in range(12)}  # fmt: skip
_FIELDS_2 = {  # of NIfTI-2
    "sizeof_hdr": (0, "i"), "magic": (4, "i"), "datatype": (12, "h"), "bitpix": (14, "h"), "dim0": (16, "q"),
    "dim1": (24, "q"), "dim2": (32, "q"), "dim3": (40, "q"), "dim4": (48, "q"), "qfac": (104, "d"),
    "pixdim1": (112, "d"), "pixdim2": (120, "d"), "pixdim3": (128, "d"), "vox_offset": (168, "q"),
    "scl_slope": (176, "d"), "scl_inter": (184, "d"), "qform_code": (344, "i"), "sform_code": (348, "i"),
    "quatern_b": (352, "d"), "quatern_c": (360, "d"), "quatern_d": (368, "d"), "qoffset_x": (376, "d"),
    "xyzt_units": (500, "i"), "intent_code": (504, "i"),
} | {f"srow{i}": (400 + 8 * i, "d") for i in range(12)}  # fmt: skip
_NAN, _INF = float("nan"), float("inf")
_ODD_FLOATS = (_NAN, _INF, -_INF, 0.0, -1.0, 1e-30, 1e30, 3e38, 0.5, 2.0, 1e9, -1e9, 352.5, 348.0, 353.0)
_ODD_INTS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 127, -128, 128, 256, 512, 768, 1024, 2048, 32767, -32768)
_ODD_SIZES = (
    (3, 32767, 32767, 32767), (7, *[32767] * 7), (3, -128, -128, 8), (3, 0, 128, 8), (3, 128, 128, 7),
    (3, 127, 128, 8), (3, 128, 128, 9), (4, 128, 128, 4, 2), (5, 64, 128, 8, 1, 2),
)  # fmt: skip


def odd_fields(made: Input, rng: Generator) -> None:
    """One to three fields replaced."""
    data = _unpacked(made)
    told = []
    for _ in range(int(rng.integers(1, 4))):
        fields = _FIELDS_2 if made.format == "nifti2" else _FIELDS
        name = choose(rng, sorted(fields))
        offset, kind = fields[name]
        (old,) = struct.unpack_from("<" + kind, data, offset)
        if kind in "fd":
            value = choose(rng, (*_ODD_FLOATS, old + 0.1, old * 2, -old))
        else:
            value = choose(rng, (*_ODD_INTS, old + 1, old - 1, -old))
            value = max(-128, min(127, value)) if kind == "b" else value
        struct.pack_into("<" + kind, data, offset, value)
        told.append(f"{name} {value}")
    _pack(made, data)
    made.spoil(", ".join(told))


def odd_sizes(made: Input, rng: Generator) -> None:
    """Sizes that do not fit the voxels."""
    sizes = choose(rng, _ODD_SIZES)
    data = _unpacked(made)
    kind, place = ("q", 16) if made.format == "nifti2" else ("h", 40)
    struct.pack_into(f"<{len(sizes)}{kind}", data, place, *sizes)
    _pack(made, data)
    made.spoil(f"dim {sizes}", hopeless=True)


def bomb(made: Input, rng: Generator) -> None:
    """A few MB that unpack to 8 GB."""
    if made.format == "nii.gz":
        made.files[made.ct] += gzip.compress(bytes(2**24)) * 512
        made.spoil("8 GB of zeros more, compressed", hopeless=True)


def _unpacked(made: Input) -> bytearray:
    data = made.files[made.ct]
    return bytearray(gzip.decompress(data) if made.ct.endswith(".gz") else data)


def _pack(made: Input, data: bytearray) -> None:
    made.files[made.ct] = gzip.compress(data, 1, mtime=0) if made.ct.endswith(".gz") else bytes(data)


WAYS = [*[odd_fields] * 8, odd_sizes, odd_sizes, bomb]
