"""Where an image file's voxels lie and how many its header claims, and helpers of all header readers."""

import os
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from lnq.errors import Damaged, Words
from lnq.image.headers.forms import NiftiForms

LONGEST_HEADER = 1 << 20  # bytes
NO_IMAGE = "it is not a medical image, or its format is not known"
NO_SPACING = "its header gives no voxel spacing"
BAD_SPACING = "its voxel spacing is zero, negative or not a number"
NO_ROTATION = "its orientation matrix is not a rotation"
UNORIENTED = "The header does not say which side is left: sides and heights are left out of the table of nodes."
BAD_HEADER = "its header is truncated or damaged"
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, eq=False)
class Layout:
    """What an image file's header says of its voxels: where they lie in the file, and in the patient."""

    path: Path  # the file that holds the voxels
    offset: int  # byte of that file where the voxels, or what packs them, begin
    dtype: np.dtype  # of a voxel's value, with its byte order
    sizes: tuple[int, ...]  # along x, y, z and further axes
    affine: np.ndarray  # [3, 4], index (x, y, z, 1) -> L, P, S in mm; of no meaning where there are not three axes
    packing: str = "raw"  # "raw", "gzip", "zlib" or "text"
    skip: int = 0  # bytes, once unpacked, before the voxels
    channels: int = 1  # values of a voxel
    scale: tuple[float, float] | None = None  # slope and intercept of the values
    warnings: tuple[str, ...] = ()  # sentences for the user
    oriented: bool = True  # whether left and right are known
    forms: NiftiForms | None = None  # of a NIfTI file

    @property
    def voxels(self) -> int:
        """How many voxels there are."""
        return prod(self.sizes)

    @property
    def size(self) -> int:
        """Bytes from the offset on, unpacked."""
        return self.skip + self.voxels * self.channels * self.dtype.itemsize


def printable(text: str, most: int = 60) -> str:
    """A header's text made fit for a sentence: printable, on one line, and cut after `most` characters."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= most else f"{shown[:most]}..."


def whole_number(text: str, field: str, least: int) -> int:
    """A field's whole number. Raises Damaged for one below `least` and for a text that readers may take otherwise."""
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
        raise Damaged("its header gives {text!r} for {field}", text=printable(text, 20), field=Words(field))
    return int(text)


def numbers(text: str, field: str, count: int) -> np.ndarray:
    """A field's numbers, float64 [count]. Raises Damaged unless it holds exactly `count` finite ones."""
    words = re.split("[ \t]+", text.strip(" \t"))  # no other blanks: readers take them differently
    if len(words) != count or not all(map(_NUMBER.fullmatch, words)) or "inf" in map(str, map(float, words)):
        raise Damaged("its header gives {text!r} for {field}", text=printable(text, 20), field=Words(field))
    return np.array(words, dtype=np.float64)


def whole_numbers(text: str, field: str, dimensions: int) -> tuple[int, ...]:
    """A field's sizes. Raises Damaged unless it has one for each dimension."""
    sizes = tuple(whole_number(size, field, 1) for size in text.split())
    if len(sizes) != dimensions:
        raise Damaged(
            "its header gives {count} sizes for {dimensions} dimensions", count=len(sizes), dimensions=dimensions
        )
    return sizes


def plain_lines(data: bytes) -> list[bytes]:
    """The lines of a header. They end in LF or CR LF. Raises Damaged for other control characters in them."""
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    if any(byte < 32 and byte != 9 for line in lines for byte in line):
        raise Damaged("its header holds control characters")
    return lines


def voxel_file(header: Path, name: str) -> Path:
    """The voxel file that a header names. Raises Damaged unless it lies in the header's folder or below it."""
    if "%" in name or name.startswith("LIST"):
        raise Damaged("its voxels lie in several files: merge them into one")
    if os.path.isabs(name) or ".." in name.split("/"):
        raise Damaged("its header names a voxel file outside its folder, {file}", file=printable(name))
    path = header.parent / name
    if not os.path.isfile(path):
        raise Damaged("its voxel file {file} is missing", file=printable(name))
    return path


def check_count(found: int, expected: int) -> None:
    """Raise Damaged unless the bytes found are as many as the header claims."""
    if found < expected:
        raise Damaged("it is truncated: {found:,} of {expected:,} bytes are there", found=found, expected=expected)
    if found > expected:
        raise Damaged("it holds more than the {expected:,} bytes that its header claims", expected=expected)
