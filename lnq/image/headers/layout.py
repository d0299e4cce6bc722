"""Where an image file's voxels lie and how many its header claims, and helpers of all header readers."""

import os
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

from lnq.errors import Damaged, Words

LONGEST_HEADER = 1 << 20  # bytes
NO_IMAGE = "it is not a medical image, or its format is not known"
NO_SPACING = "its header gives no voxel spacing"
BAD_SPACING = "its voxel spacing is zero, negative or not a number"
NO_ROTATION = "its orientation matrix is not a rotation"
BAD_HEADER = "its header is truncated or damaged"
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Layout:
    """Where the voxels of an image file lie, as its header says."""

    reader: str  # ITK's name of the format
    voxels: int  # how many
    path: Path  # the file that holds the voxels
    offset: int  # byte of that file where the voxels begin; 0 for NIfTI, which counts the header in
    size: int  # bytes from the offset on, unpacked
    packing: str = "raw"  # "raw", "gzip" or "zlib"


def printable(text: str, most: int = 60) -> str:
    """A header's text made fit for a sentence: printable, on one line, and cut after `most` characters."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= most else f"{shown[:most]}..."


def whole_number(text: str, field: str, least: int) -> int:
    """A field's whole number. Raises Damaged for one below `least` and for a text that readers may take otherwise."""
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
        raise Damaged("its header gives {text!r} for {field}", text=printable(text, 20), field=Words(field))
    return int(text)


def check_numbers(text: str, field: str, count: int) -> None:
    """Raise Damaged unless a field holds exactly `count` finite numbers."""
    words = text.split()
    if len(words) != count or not all(map(_NUMBER.fullmatch, words)) or "inf" in map(str, map(float, words)):
        raise Damaged("its header gives {text!r} for {field}", text=printable(text, 20), field=Words(field))


def count_voxels(text: str, field: str, dimensions: int) -> int:
    """The product of a field's sizes. Raises Damaged unless it has one for each dimension."""
    sizes = [whole_number(size, field, 1) for size in text.split()]
    if len(sizes) != dimensions:
        raise Damaged(
            "its header gives {count} sizes for {dimensions} dimensions", count=len(sizes), dimensions=dimensions
        )
    return prod(sizes)


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
