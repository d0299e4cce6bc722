"""The header of a NIfTI file: version 1 or 2, in one file or as a pair of .hdr and .img."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.errors import Damaged
from lnq.image.headers.forms import NiftiForms
from lnq.image.headers.layout import BAD_SPACING, NO_IMAGE, NO_ROTATION, UNORIENTED, Layout, printable

_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 32: "c8", 64: "f8", 128: "u1", 256: "i1", 512: "u2", 768: "u4", 1024: "i8",
    1280: "u8", 1792: "c16", 2304: "u1",
}  # fmt: skip
# format and byte of each field: dim, type, voxels' byte, scale, pixdim, codes, quaternion and offset, srow, units
_PLACES_1 = (
    ("8h", 40), ("h", 70), ("f", 108), ("2f", 112), ("4f", 76), ("2h", 252), ("6f", 256), ("12f", 280), ("b", 123),
)  # fmt: skip
_PLACES_2 = (
    ("8q", 16), ("h", 12), ("q", 168), ("2d", 176), ("4d", 104), ("2i", 344), ("6d", 352), ("12d", 400), ("i", 500),
)  # fmt: skip
_CHANNELS = {128: 3, 2304: 4}
_TOLERANCE = 1e-3  # largest dot product error of a rotation's columns
_SPACING_TOLERANCE = 1e-2  # relative, between the two spacings of a header: pixdim and sform
_AGREE_MM = 0.01  # forms that place each corner this near to the other's agree
_HALF_TURN, _ANGLE_ERROR = 0.9999, 1e-3  # norm of b, c, d; radians
_UNITS_MM = {1: 1000.0, 3: 0.001}  # metres and micrometres; all else is taken for mm
_TO_LPS = np.diag([-1.0, -1.0, 1.0])  # NIfTI's axes point right, front and up


@dataclass(frozen=True, eq=False)
class _Header:
    """The fields of a header that matter."""

    sizes: tuple[int, ...]
    data_type: int
    offset: float
    scale: tuple[float, float]
    pixdim: np.ndarray  # [4], the first is qfac
    codes: tuple[int, int]  # of qform and sform
    quaternion: np.ndarray  # b, c, d
    qoffset: np.ndarray  # mm
    sform: np.ndarray  # [3, 4], index (x, y, z) -> right, front, up in mm
    pair: bool
    units: int  # code of time and length

    @property
    def unit_mm(self) -> float:
        """Length of the header's unit."""
        return _UNITS_MM.get(self.units & 7, 1.0)

    def forms(self) -> NiftiForms:
        """What to write into the header of a mask of this image."""
        quaternion = (*self.quaternion, *self.qoffset)
        return NiftiForms(
            _floats(self.pixdim),
            self.units & 7,
            (_code(self.codes[0]), _code(self.codes[1])),
            _floats(quaternion),
            _floats(self.sform.ravel()),
        )


def _code(value: int) -> int:
    """A form's code, within the range of 16 bits."""
    return max(-(2**15), min(value, 2**15 - 1))


def _floats(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """The values, within the range of float32."""
    most = float(np.finfo(np.float32).max)
    return tuple(float(value) for value in np.clip(np.asarray(values, float), -most, most))


def nifti_layout(path: Path) -> Layout:
    """The layout of a NIfTI file. Raises Damaged for another format and for values that make no image."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        data = file.read(540)
    order, version = _kind(data, path)
    header = _fields(data, order, version)
    if min(header.sizes, default=0) < 1:
        raise Damaged("its header gives no size")
    if header.data_type not in _TYPES:
        raise Damaged("its voxels are of type {kind}, which is not known", kind=header.data_type)
    least = 0 if header.pair else len(data) if version == 2 else 348
    if not (header.offset >= least and float(header.offset).is_integer()):
        raise Damaged("its header says that its voxels begin at byte {offset:g}", offset=header.offset)
    if any(map(math.isinf, header.scale)):  # some writers put NaN where there is no scale
        raise Damaged("its voxel values are scaled by infinity")
    kind = np.dtype(order + _TYPES[header.data_type])
    voxels, packing = (_beside(path) if header.pair else path), "gzip" if packed else "raw"
    if header.pair:
        packing = "gzip" if voxels.name.lower().endswith(".gz") else "raw"
    sizes = header.sizes
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    more = sizes[3:]
    channels = _CHANNELS.get(header.data_type, 1)
    if len(more) == 2 and more[0] == 1:  # the fifth axis is that of vectors
        sizes, channels = sizes[:3], channels * more[1]
    affine, warnings, oriented = _geometry(header, sizes)
    slope, intercept = header.scale
    scaled = math.isfinite(slope) and slope != 0 and math.isfinite(intercept) and (slope, intercept) != (1, 0)
    return Layout(
        voxels,
        0,
        kind,
        sizes,
        affine,
        packing,
        skip=int(header.offset),
        channels=channels,
        scale=(slope, intercept) if scaled else None,
        warnings=warnings,
        oriented=oriented,
        forms=header.forms(),
    )


def _kind(data: bytes, path: Path) -> tuple[str, int]:
    """The byte order and the version. Raises Damaged for another format."""
    for order, name in (("<", "little"), (">", "big")):
        if data[:4] == (348).to_bytes(4, name) and len(data) >= 348:  # type: ignore[arg-type]
            if data[344:348] in (b"n+1\0", b"ni1\0"):
                return order, 1
            if path.name.lower().endswith(".hdr"):
                raise Damaged("it is an Analyze file, which does not tell left from right: convert it to NIfTI")
        if data[:4] == (540).to_bytes(4, name) and data[4:8] in (b"n+2\0", b"ni2\0") and len(data) >= 540:  # type: ignore[arg-type]
            return order, 2
    raise Damaged(NO_IMAGE)


def _fields(data: bytes, order: str, version: int) -> _Header:
    def read(form: str, offset: int) -> tuple[float, ...]:
        return struct.unpack_from(order + form, data, offset)

    places, magic = (_PLACES_1, data[344:348]) if version == 1 else (_PLACES_2, data[4:8])
    dim, kind, offset, scale, pixdim, codes, turn, sform, units = (read(*place) for place in places)
    count = int(dim[0])
    sizes = tuple(int(size) for size in dim[1 : 1 + count]) if 1 <= count <= 7 else ()
    return _Header(
        sizes,
        int(kind[0]),
        offset[0],
        (scale[0], scale[1]),
        np.array(pixdim, float),
        (int(codes[0]), int(codes[1])),
        np.array(turn[:3], float),
        np.array(turn[3:], float),
        np.array(sform, float).reshape(3, 4),
        magic[:2] == b"ni",
        int(units[0]),
    )


def _beside(header: Path) -> Path:
    """The .img file of a pair. Raises Damaged where it is missing."""
    base = header.name[: -len(header.suffix)]
    for extension in (".img", ".img.gz", ".IMG"):
        if header.with_name(base + extension).is_file():
            return header.with_name(base + extension)
    raise Damaged("its voxel file {file} is missing", file=printable(f"{base}.img"))


def _geometry(header: _Header, sizes: tuple[int, ...]) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """The affine [3, 4] of index (x, y, z) to LPS mm, warnings, and whether left and right are known.

    As in ITK, the sform counts where it has code 1 or stands alone, else the qform. Raises Damaged where the voxels'
    distances or directions would have to be invented.
    """
    spacing = header.pixdim[1:]
    count = min(len(sizes), 3)
    if not (np.isfinite(spacing) & (spacing > 0))[:count].all():
        raise Damaged(BAD_SPACING)
    if count < 3:
        return np.eye(3, 4), (), False
    qform, sform = _qform(header), header.sform if header.codes[1] > 0 else None
    if not all(np.isfinite(form).all() for form in (qform, sform) if form is not None):
        raise Damaged("its header gives a position that is not a number")
    warnings: list[str] = []
    used_is_sure = True
    used = sform if sform is not None and (qform is None or header.codes[1] == 1) else qform
    if used is sform and sform is not None:
        if _is_sheared(sform) and qform is not None:
            used = qform
            warnings.append("The sform of the NIfTI header is sheared: the qform was used.")
        elif _is_sheared(sform):
            raise Damaged(NO_ROTATION)
        elif np.abs(np.linalg.norm(sform[:, :3], axis=0) / spacing - 1).max() > _SPACING_TOLERANCE:
            raise Damaged("its header gives two voxel spacings that differ")
        else:
            used = np.c_[sform[:, :3] / np.linalg.norm(sform[:, :3], axis=0) * spacing, sform[:, 3]]
    if qform is not None and sform is not None and not warnings and not _agree(header, qform, sform):
        name = "qform" if used is qform else "sform"
        warnings.append(f"The qform and the sform of the NIfTI header disagree: the {name} was used.")
        if (np.sum(qform[:, :3] * sform[:, :3], axis=0) < 0).any():  # one is the other's mirror image
            used_is_sure = False
    oriented = used_is_sure and used is not None and not np.array_equal(np.abs(used), np.eye(3, 4))
    if not oriented:
        warnings.append(UNORIENTED)
    affine = np.c_[np.diag(spacing), np.zeros(3)] if used is None else used
    return _TO_LPS @ affine * header.unit_mm, tuple(warnings), oriented


def _qform(header: _Header) -> np.ndarray | None:
    """The qform [3, 4]; None where it is not given. Raises Damaged where it is no rotation."""
    if header.codes[0] <= 0:
        return None
    if not np.linalg.norm(header.quaternion) < 1 + _TOLERANCE:
        raise Damaged(NO_ROTATION)
    b, c, d = header.quaternion / max(1.0, float(np.linalg.norm(header.quaternion)))
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    rotation[:, 2] *= -1 if header.pixdim[0] < 0 else 1
    return np.c_[rotation * header.pixdim[1:], header.qoffset]


def _is_sheared(sform: np.ndarray) -> bool:
    length = np.linalg.norm(sform[:, :3], axis=0)
    if not np.isfinite(length).all() or (length == 0).any():
        return True
    cosines = (sform[:, :3] / length).T @ (sform[:, :3] / length)
    return bool(np.abs(cosines - np.eye(3)).max() > _TOLERANCE)


def _agree(header: _Header, qform: np.ndarray, sform: np.ndarray) -> bool:
    """Whether both forms put all corners at the same places, as far as the header's numbers are exact."""
    sizes = header.sizes
    corners = np.array([[x, y, z, 1] for x in (0, sizes[0]) for y in (0, sizes[1]) for z in (0, sizes[2])]).T
    apart_mm = np.abs((qform - sform) @ corners).max(axis=0)
    allowed_mm = np.full(len(apart_mm), _AGREE_MM)
    if np.linalg.norm(header.quaternion) > _HALF_TURN:  # near half a turn float32 leaves the angle open
        allowed_mm += _ANGLE_ERROR * np.linalg.norm(np.diag(header.pixdim[1:]) @ corners[:3], axis=0)
    return bool((apart_mm <= allowed_mm).all())
