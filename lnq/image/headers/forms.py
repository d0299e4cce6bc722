"""The two forms by which a NIfTI header places its voxels, written back into the file of a result as they were read.

Programs differ in which form they use, and where the two disagree they place an image differently. A mask with the
image's own forms lies on the image in all of them.
"""

from __future__ import annotations

import gzip
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER = 348  # bytes
_BLOCK = 1 << 20  # bytes copied at a time


@dataclass(frozen=True)
class NiftiForms:
    """What a NIfTI header says of the voxels' places."""

    pixdim: tuple[float, ...]  # [4]: qfac, then the spacing along x, y, z
    units: int  # code of the unit of length
    codes: tuple[int, int]  # of qform and sform
    quaternion: tuple[float, ...]  # [6]: b, c, d, then the offset
    sform: tuple[float, ...]  # [12], row by row

    def put_into(self, path: Path) -> None:
        """Replace the forms of a NIfTI-1 file, .nii or .nii.gz, as ITK writes it. Raises OSError."""
        packed = path.name.lower().endswith(".gz")
        copy = path.with_name(f"{path.name}.copy")
        try:
            with (
                gzip.open(path) if packed else path.open("rb") as file,
                copy.open("wb") as raw,
                gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw as changed,
            ):
                changed.write(self._changed(file.read(_HEADER)))
                shutil.copyfileobj(file, changed, _BLOCK)
            os.replace(copy, path)
        finally:
            copy.unlink(missing_ok=True)

    def _changed(self, header: bytes) -> bytes:
        data = bytearray(header)
        order = "<" if header[:4] == _HEADER.to_bytes(4, "little") else ">"
        struct.pack_into(f"{order}4f", data, 76, *self.pixdim)
        data[123] = self.units
        struct.pack_into(f"{order}2h6f12f", data, 252, *self.codes, *self.quaternion, *self.sform)
        return bytes(data)
