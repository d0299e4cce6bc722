"""The header of a NIfTI file: only what concerns its voxels and its geometry."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from lnq.errors import Damaged
from lnq.image.headers.layout import BAD_SPACING, NO_IMAGE, NO_ROTATION, Layout

_HEADER_BYTES = 348
# NIfTI's data type: bytes of a voxel
_TYPE_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 32: 8, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 2304: 4}
_TOLERANCE = 1e-3  # largest dot product error of a rotation's columns
_SPACING_TOLERANCE = 1e-2  # relative, between the two spacings of a header: pixdim and sform


def nifti_layout(path: Path) -> Layout:
    """Where a NIfTI-1 file's voxels lie. Raises Damaged for another format and for values that make no image."""
    with path.open("rb") as file:
        packing = "gzip" if file.read(2) == b"\x1f\x8b" else "raw"
    with gzip.open(path) if packing == "gzip" else path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    order = {_HEADER_BYTES.to_bytes(4, "little"): "<", _HEADER_BYTES.to_bytes(4, "big"): ">"}.get(header[:4])
    if order is None or header[344:] != b"n+1\0":  # other endings: the voxels lie in another file
        raise Damaged(NO_IMAGE)
    dimensions, *sizes = struct.unpack(order + "8h", header[40:56])
    (data_type,) = struct.unpack(order + "h", header[70:72])
    offset, *scale = struct.unpack(order + "3f", header[108:120])
    if not 1 <= dimensions <= 7 or min(sizes[:dimensions]) < 1:
        raise Damaged("its header gives no size")
    if data_type not in _TYPE_BYTES:
        raise Damaged("its voxels are of type {kind}, which is not known", kind=data_type)
    if not (offset >= _HEADER_BYTES and offset.is_integer()):
        raise Damaged("its header says that its voxels begin at byte {offset:g}", offset=offset)
    if any(map(math.isinf, scale)):  # Some writers put NaN where there is no scale.
        raise Damaged("its voxel values are scaled by infinity")
    _check_geometry(header, order, min(dimensions, 3))
    voxels = math.prod(sizes[:dimensions])
    return Layout("NiftiImageIO", voxels, path, 0, int(offset) + voxels * _TYPE_BYTES[data_type], packing)


def _check_geometry(header: bytes, order: str, dimensions: int) -> None:
    """Raise Damaged where ITK would invent a geometry.

    It takes 1 mm for a missing spacing, no rotation for a damaged one, and the nearest rotation for a sheared sform.
    """
    spacing = np.array(struct.unpack(order + "3f", header[80:92]))
    if not (np.isfinite(spacing) & (spacing > 0))[:dimensions].all():
        raise Damaged(BAD_SPACING)
    qform_code, sform_code, *quaternion = struct.unpack(order + "2h3f", header[252:268])
    if qform_code > 0 and not np.linalg.norm(quaternion) < 1 + _TOLERANCE:
        raise Damaged(NO_ROTATION)
    if sform_code == 0 or (qform_code > 0 and sform_code != 1) or dimensions < 3:
        return  # ITK does not use the sform
    sform = np.array(struct.unpack(order + "12f", header[280:328])).reshape(3, 4)[:, :3]
    length = np.linalg.norm(sform, axis=0)
    if not np.isfinite(length).all() or (length == 0).any():
        raise Damaged(NO_ROTATION)
    cosines = (sform / length).T @ (sform / length)
    if np.abs(cosines - np.eye(3)).max() > _TOLERANCE:
        raise Damaged(NO_ROTATION)
    if np.abs(length / spacing - 1).max() > _SPACING_TOLERANCE:
        raise Damaged("its header gives two voxel spacings that differ")
